from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from helpers.runs import assert_same, tiny_config, train, weights
from torch import nn

from distill.engine import Trainer, training_parser
from distill.utils.launch import _worker

_SHORT = ("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2")
# A rate that depends on MAX_ITER, and a mean over batches that must be the same after resuming.
_SCHEDULE = ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", "3")
_RETINANET = (
    *("MODEL.META_ARCHITECTURE", "RetinaNet"),
    *("MODEL.RETINANET.IN_FEATURES", "['p2', 'p3', 'p4']"),
)

_KILLED_RUN = """
import os, signal, sys
import torch
from detectron2.engine import HookBase
from distill.engine import Trainer, set_up, training_parser

class Kill(HookBase):
    def before_step(self):
        if self.trainer.iter == 5:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
trainer = Trainer(set_up(training_parser().parse_args()))
trainer.register_hooks([Kill()])
trainer.resume_or_load(resume=False)
trainer.train()
"""


def _distilled(root: Path) -> tuple[str, ...]:
    teacher = ("DISTILL.TEACHER.CONFIG_FILE", str(root / "tiny.yaml"))
    control = ("DISTILL.TEACHER.ALLOW_RANDOM", "True")
    methods = ("MODEL.META_ARCHITECTURE", "Distiller", "DISTILL.METHODS", "('TADF',)")
    return (*methods, *teacher, *control)


@pytest.mark.parametrize("kind", ["plain", "distilled in bfloat16"])
def test_a_killed_run_resumes_to_the_weights_of_one_that_was_not(tiny_coco, tmp_path, kind):
    options = (*_SHORT, *_SCHEDULE)
    if kind != "plain":
        options += ("SOLVER.AMP.ENABLED", "True", *_distilled(tiny_coco))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    train(tiny_config(tiny_coco, whole, *options))

    environment = {
        **os.environ,
        "DETECTRON2_DATASETS": str(tiny_coco),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-c", _KILLED_RUN, "--config-file", str(tiny_coco / "tiny.yaml")]
    done = subprocess.run(
        [*command, *options, "OUTPUT_DIR", str(killed)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (killed / "last_checkpoint").read_text() == "model_0000003.pth"
    # Other workers: they must not matter either.
    workers = ("DATALOADER.NUM_WORKERS", "1")
    train(tiny_config(tiny_coco, killed, *options, *workers), resume=True)
    assert_same(weights(killed), weights(whole))
    last = weights(whole, "model_0000005")
    assert_same(weights(killed, "model_0000005"), last)
    assert any(key.startswith("distill.") for key in last) == (kind != "plain")
    whole_optimizer, killed_optimizer = (
        torch.load(folder / "model_0000005.pth", weights_only=True)["trainer"]["_trainer"]
        for folder in (whole, killed)
    )
    assert str(whole_optimizer) == str(killed_optimizer)


def test_a_dense_detector_resumes_with_its_running_normalizer(tiny_coco, tmp_path):
    options = (*_SHORT, *_RETINANET)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    trainer = train(tiny_config(tiny_coco, whole, *options))
    train(tiny_config(tiny_coco, halved, *options, "SOLVER.MAX_ITER", "4"))
    resumed = train(tiny_config(tiny_coco, halved, *options), resume=True)
    assert resumed.student.loss_normalizer == trainer.student.loss_normalizer
    assert_same(weights(halved), weights(whole))


def test_a_finished_run_goes_on_with_more_iterations(tiny_coco, tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    constant = ("SOLVER.CHECKPOINT_PERIOD", "0", "SOLVER.MAX_ITER")
    train(tiny_config(tiny_coco, short, *constant, "2"))
    assert (short / "last_checkpoint").read_text() == "model_0000001.pth"
    trainer = train(tiny_config(tiny_coco, short, *constant, "4"), resume=True)
    assert trainer.start_iter == 2
    train(tiny_config(tiny_coco, long, *constant, "4"))
    assert_same(weights(short), weights(long))


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_two_processes_resume_to_the_weights_of_a_run_without_stop(tiny_coco, tmp_path, kind):
    def run(folder: Path, iterations: int, resume: bool = False) -> None:
        options = ("DATASETS.TEST", "()", "SOLVER.MAX_ITER", str(iterations))
        # Each rank has a normalizer of its own.
        options += _RETINANET if kind == "retinanet" else ()
        cfg = tiny_config(tiny_coco, folder, *options)
        args = training_parser().parse_args(["--num-processes", "2"])
        url = (tmp_path / f"rendezvous_{folder.name}_{iterations}").as_uri()
        # fork: a spawned process could not import this file.
        torch.multiprocessing.start_processes(
            _worker, args=(lambda _: train(cfg, resume), args, url), nprocs=2, start_method="fork"
        )

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, 3)
    run(parts, 2)
    run(parts, 3, resume=True)
    assert_same(weights(parts), weights(whole))


def test_the_rate_follows_a_schedule_that_became_longer(tiny_coco, tmp_path):
    cosine = ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.MAX_ITER")
    train(tiny_config(tiny_coco, tmp_path, *cosine, "2"))
    trainer = Trainer(tiny_config(tiny_coco, tmp_path, *cosine, "4"))
    trainer.resume_or_load(resume=True)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)  # half-way


def test_the_final_weights_are_plain_detectron2_s_and_nothing_else(tiny_coco, tmp_path):
    cfg = tiny_config(tiny_coco, tmp_path, "SOLVER.MAX_ITER", "1")
    trainer = train(cfg)
    data = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert set(data) == {"model"}
    plain = build_model(cfg)
    DetectionCheckpointer(plain).load(str(tmp_path / "model_final.pth"))
    assert_same(plain.state_dict(), trainer.student.state_dict())


def test_a_run_without_seed_keeps_the_one_it_drew(tiny_coco, tmp_path):
    options = ("SEED", "-1", "SOLVER.MAX_ITER", "1")
    first = train(tiny_config(tiny_coco, tmp_path, *options))
    second = Trainer(tiny_config(tiny_coco, tmp_path, *options))
    assert first.seed != second.seed
    second.resume_or_load(resume=True)
    assert first.seed == second.seed == second._trainer.seed == second.data_loader.seed


def test_a_checkpoint_of_plain_detectron2_0_6_resumes_without_its_optimizer(tiny_coco, tmp_path):
    cfg = tiny_config(tiny_coco, tmp_path, "SOLVER.MAX_ITER", "3")
    state = {"iteration": 1, "hooks": {}}
    weights = build_model(cfg).state_dict()
    torch.save({"model": weights, "trainer": state, "iteration": 1}, tmp_path / "model_1.pth")
    (tmp_path / "last_checkpoint").write_text("model_1.pth")
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 2
    assert_same(trainer.student.state_dict(), weights)


def test_evaluation_comes_at_its_period_and_once_at_the_end(tiny_coco, tmp_path):
    options = ("TEST.EVAL_PERIOD", "2", "SOLVER.MAX_ITER", "4")
    trainer = Trainer(tiny_config(tiny_coco, tmp_path, *options))
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    lines = [json.loads(line) for line in open(tmp_path / "metrics.json")]
    evaluated = [line["iteration"] for line in lines if "bbox/AP" in line]
    assert evaluated == [1, 4]
    assert "AP50" in results["bbox"]


@pytest.mark.parametrize("detector", [(), _RETINANET], ids=["faster_rcnn", "retinanet"])
def test_batch_statistics_are_recomputed_the_same_after_resuming(tiny_coco, tmp_path, detector):
    options = detector
    options += ("TEST.PRECISE_BN.ENABLED", "True", "TEST.PRECISE_BN.NUM_ITER", "2")
    options += ("TEST.EVAL_PERIOD", "1", "SOLVER.CHECKPOINT_PERIOD", "1", "DATASETS.TEST", "()")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(tiny_config(tiny_coco, whole, *options, "SOLVER.MAX_ITER", "3"))
    train(tiny_config(tiny_coco, parts, *options, "SOLVER.MAX_ITER", "2"))
    train(tiny_config(tiny_coco, parts, *options, "SOLVER.MAX_ITER", "3"), resume=True)
    assert_same(weights(parts), weights(whole))


def test_bfloat16_reaches_the_detector_on_a_cpu(tiny_coco, tmp_path):
    trainer = Trainer(tiny_config(tiny_coco, tmp_path, "SOLVER.AMP.ENABLED", "True"))
    trainer.resume_or_load(resume=False)
    convolutions = [m for m in trainer.student.modules() if isinstance(m, nn.Conv2d)]
    seen = []
    convolutions[0].register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    trainer.max_iter = 1
    trainer.train()
    assert seen[0] == torch.bfloat16
    assert {p.dtype for p in trainer.student.parameters()} == {torch.float32}


def test_a_batch_that_ranks_can_not_share_is_refused(tiny_coco, tmp_path):
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH is 0"):
        Trainer(tiny_config(tiny_coco, tmp_path, "SOLVER.IMS_PER_BATCH", "0"))


def test_the_teacher_is_evaluated_as_itself(tiny_coco, tmp_path):
    trained = train(tiny_config(tiny_coco, tmp_path / "teacher", "SOLVER.MAX_ITER", "2"))
    weights = ("DISTILL.TEACHER.WEIGHTS", str(tmp_path / "teacher" / "model_final.pth"))
    options = (*_distilled(tiny_coco), *weights)
    trainer = Trainer(tiny_config(tiny_coco, tmp_path / "student", *options))
    expected = trained.test(trained.cfg, trained.student)["bbox"]
    assert trainer.test_teacher()["bbox"] == pytest.approx(expected, nan_ok=True)
    name = "inference/tiny_test/coco_instances_results.json"
    detections = json.loads((tmp_path / "teacher" / name).read_text())
    assert detections
    assert json.loads((tmp_path / "student" / "teacher" / name).read_text()) == detections

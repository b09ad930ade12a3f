"""What --resume goes on with, and what it refuses in one sentence."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from distill.config import student_config
from distill.engine import Trainer, build_config, load_for_evaluation, training_parser
from distill.utils.checkpoint import SafeCheckpointer

_DATA = ("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "()", "DISTILL.METHODS", "('TADF',)")
_RUN = ("MODEL.META_ARCHITECTURE", "Distiller", "DISTILL.TEACHER.ALLOW_RANDOM", "True")
_LAST = "model_0000001.pth"


def _cfg(root: Path, output: Path, *options: str) -> CfgNode:
    teacher = ("DISTILL.TEACHER.CONFIG_FILE", str(root / "tiny.yaml"))
    arguments = ["--config-file", str(root / "tiny.yaml"), *_DATA, *_RUN, *teacher]
    arguments += [
        "SOLVER.MAX_ITER",
        "2",
        "SOLVER.OPTIMIZER",
        "SGD",
        "OUTPUT_DIR",
        str(output),
        *options,
    ]
    return build_config(training_parser().parse_args([*arguments, "OUTPUT_DIR", str(output)]))


@pytest.fixture(scope="module")
def run(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of two iterations."""
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(_cfg(tiny_coco, folder))
    trainer.resume_or_load(resume=False)
    trainer.train()
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def _resume(root: Path, folder: Path, *options: str) -> Trainer:
    trainer = Trainer(_cfg(root, folder, *options))
    trainer.resume_or_load(resume=True)
    return trainer


def _without_record(folder: Path) -> None:
    """As earlier releases wrote it."""
    data = torch.load(folder / _LAST, weights_only=True)
    del data["run"]
    torch.save(data, folder / _LAST)


_OTHER_RUNS = [
    (("SOLVER.OPTIMIZER", "AdamW"), r"which trained SGD in place of SOLVER.OPTIMIZER AdamW"),
    (("MODEL.BACKBONE.FREEZE_AT", "3"), r"which trained .*what is frozen differs"),
    (("DISTILL.METHODS", "('IDaDet',)"), r"whose model is another .*distill\.IDaDet"),
    (("DISTILL.METHODS", "()"), r"which trained .*DISTILL.METHODS or what is frozen differs"),
    (("MODEL.FPN.OUT_CHANNELS", "12"), r"whose model is another than the config's .*fpn_lateral"),
    (("SOLVER.MAX_ITER", "1"), r"written after 2 iterations, more than SOLVER.MAX_ITER 1"),
]


@pytest.mark.parametrize(("options", "message"), _OTHER_RUNS)
@pytest.mark.parametrize("recorded", [True, False])
def test_a_config_of_another_run_is_refused(tiny_coco, copy, options, message, recorded):
    if not recorded:
        _without_record(copy)
    with pytest.raises(ValueError, match=message) as raised:
        _resume(tiny_coco, copy, *options)
    assert _LAST in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("recorded", [True, False])
def test_settings_of_optimizer_and_schedule_are_those_of_the_config(
    tiny_coco, copy, caplog, recorded
):
    if not recorded:
        _without_record(copy)
    options = ("SOLVER.BASE_LR", "0.5", "SOLVER.WEIGHT_DECAY", "0.25", "SOLVER.MOMENTUM", "0.125")
    with caplog.at_level(logging.WARNING):
        trainer = _resume(tiny_coco, copy, "SOLVER.MAX_ITER", "4", *options)
    assert trainer.start_iter == 2
    group = trainer.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.5, 0.125)
    assert {0.25} == {g["weight_decay"] for g in trainer.optimizer.param_groups} - {0.0}
    assert len(trainer.optimizer.state) == sum(
        len(g["params"]) for g in trainer.optimizer.param_groups
    )
    assert ("SOLVER.BASE_LR 0.002 -> 0.5" in caplog.text) == recorded
    trainer.train()
    assert (copy / "last_checkpoint").read_text() == "model_0000003.pth"


def test_a_finished_run_stays_as_it_is(tiny_coco, copy, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = _resume(tiny_coco, copy)
    assert trainer.start_iter == trainer.max_iter == 2
    assert "other settings" not in caplog.text


def _drop(folder: Path, *keys: str) -> None:
    data: Any = torch.load(folder / _LAST, weights_only=True)
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    torch.save(data, folder / _LAST)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("trainer",), "has weights but no state of a training"),
        (("trainer", "iteration"), "has weights but no state of a training"),
        (("trainer", "_trainer", "optimizer"), "of this config's .it lacks 'optimizer'"),
        (
            ("trainer", "_trainer", "optimizer", "state"),
            "of this config's .it lacks 'state'",
        ),
        (("model", "backbone.fpn_output2.weight"), "whose model is another"),
        (("model", "distill.TADF.mask.weight"), "whose model is another"),
    ],
)
def test_a_checkpoint_that_lacks_something_is_refused(tiny_coco, copy, keys, message):
    if keys[-1].startswith("distill."):
        names = torch.load(copy / _LAST, weights_only=True)["model"]
        keys = ("model", next(name for name in names if name.startswith("distill.")))
    _drop(copy, *keys)
    with pytest.raises(ValueError, match=f"{_LAST}.*{message}|{message}") as raised:
        _resume(tiny_coco, copy)
    assert _LAST in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("note", "message"),
    [
        (b"", "last_checkpoint is empty"),
        (b"model_0000009.pth", "names 'model_0000009.pth', which does not exist"),
        (b"\xff\xfe", "which does not exist"),
    ],
)
def test_a_note_that_names_no_checkpoint_is_refused(tiny_coco, copy, note, message):
    (copy / "last_checkpoint").write_bytes(note)
    with pytest.raises(FileNotFoundError, match=f"{message}.*: write {_LAST} into last_checkpoint"):
        _resume(tiny_coco, copy)
    checkpointer = SafeCheckpointer(torch.nn.Linear(1, 1), str(copy))
    with pytest.raises(FileNotFoundError, match=message):
        load_for_evaluation(checkpointer, "", resume=True)


def test_a_state_of_other_kinds_is_refused_and_the_schedule_follows_the_iteration(tiny_coco, copy):
    whole: Any = torch.load(copy / _LAST, weights_only=True)
    moments = whole["trainer"]["_trainer"]["optimizer"]["state"][0]
    changes = (
        (whole["trainer"], "seed", "x"),
        (whole["trainer"], "iteration", -1),
        (whole["run"], "parameters", [[{}]]),
        (moments, "momentum_buffer", torch.ones(1)),
        (moments, "momentum_buffer", moments["momentum_buffer"] * torch.nan),
        (moments, "momentum_buffer", "x"),
    )
    for node, key, value in changes:
        kept, node[key] = node[key], value
        torch.save(whole, copy / _LAST)
        node[key] = kept
        with pytest.raises(ValueError, match=_LAST):
            _resume(tiny_coco, copy)
    del whole["trainer"]["hooks"]["LRScheduler"]
    torch.save(whole, copy / _LAST)
    assert _resume(tiny_coco, copy).scheduler.last_epoch == 2


def test_a_damaged_checkpoint_is_named_with_the_one_before(tiny_coco, copy):
    content = bytearray((copy / _LAST).read_bytes())
    shutil.copy(copy / _LAST, copy / "model_0000000.pth")
    content[len(content) // 2] ^= 1
    (copy / _LAST).write_bytes(content)
    message = f"{_LAST} is damaged .*; write model_0000000.pth into last_checkpoint to go on"
    with pytest.raises(ValueError, match=message):
        _resume(tiny_coco, copy)


def test_plain_detectron2_resumes_what_a_run_saved(tiny_coco, copy):
    """The record of the run is nothing that it must know."""
    student = build_model(student_config(_cfg(tiny_coco, copy)))
    rest = DetectionCheckpointer(student, str(copy)).resume_or_load("", resume=True)
    assert rest["iteration"] == 1 and rest["run"]["optimizer"] == "SGD"


def test_weights_of_which_nothing_fits_do_not_start_a_run(tiny_coco, tmp_path):
    torch.save({"model": {"other.weight": torch.ones(2)}}, tmp_path / "other.pth")
    cfg = _cfg(tiny_coco, tmp_path, "MODEL.WEIGHTS", str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match=r"MODEL.WEIGHTS: of the 1 tensors in .*other\.pth 0 fit"):
        Trainer(cfg).resume_or_load(resume=False)


def test_an_evaluation_needs_all_of_the_detector(tiny_coco, copy):
    student = build_model(student_config(_cfg(tiny_coco, copy)))
    load_for_evaluation(SafeCheckpointer(student, str(copy)), "", resume=True)
    _drop(copy, "model", "roi_heads.box_predictor.cls_score.bias")
    with pytest.raises(ValueError, match=r"MODEL.WEIGHTS: .* covers 9.* of the detector's"):
        load_for_evaluation(SafeCheckpointer(student), str(copy / _LAST), resume=False)

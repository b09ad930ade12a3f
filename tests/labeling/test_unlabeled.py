"""Training on labeled and unlabeled images, from the config to the weights."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from distill.engine import Trainer, build_config, set_up, training_parser
from distill.labeling import unlabeled
from distill.labeling.unlabeled import unlabeled_records
from distill.utils.launch import _worker

_TINY_DATA = ("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "()")
_DISTILL = ("MODEL.META_ARCHITECTURE", "Distiller", "DISTILL.METHODS", "('TADF',)")
# A teacher that finds nothing.
_BLIND = ("DISTILL.TEACHER.OPTS", "['MODEL.ROI_HEADS.SCORE_THRESH_TEST', 1.0]")


@pytest.fixture(scope="module")
def root(tiny_coco, tmp_path_factory) -> Path:
    """The folder of tiny.yaml, with the weights of a teacher that is sure of what it guesses."""
    cfg = build_config(training_parser().parse_args(["--config-file", f"{tiny_coco}/tiny.yaml"]))
    torch.manual_seed(1)
    model = build_model(cfg)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight *= 12
    folder = tmp_path_factory.mktemp("sure")
    shutil.copy(tiny_coco / "tiny.yaml", folder)
    torch.save({"model": model.state_dict()}, folder / "teacher.pth")
    return folder


def _config(root: Path, output: Path, *options: str) -> CfgNode:
    teacher = ("DISTILL.TEACHER.CONFIG_FILE", str(root / "tiny.yaml"))
    weights = ("DISTILL.TEACHER.WEIGHTS", str(root / "teacher.pth"))
    data = (*_TINY_DATA, "DATASETS.UNLABELED", "('tiny_test',)", "DATALOADER.NUM_WORKERS", "0")
    command = ["--config-file", str(root / "tiny.yaml"), *data, *teacher, *weights, *options]
    return build_config(training_parser().parse_args([*command, "OUTPUT_DIR", str(output)]))


def _train(cfg: CfgNode, iterations: int, resume: bool = False) -> Trainer:
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    cfg = cfg.clone()
    cfg.merge_from_list(["SOLVER.MAX_ITER", iterations])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def _assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


@pytest.mark.parametrize("options", [(), _DISTILL])
def test_a_run_stopped_in_the_middle_of_the_alternation_resumes_as_if_it_was_not(
    root, tmp_path, options
):
    whole, parts = (_config(root, tmp_path / name, *options) for name in ("whole", "parts"))
    _train(whole, 4)
    _train(parts, 1)
    _train(parts, 4, resume=True)
    _assert_same(_weights(tmp_path / "parts"), _weights(tmp_path / "whole"))


_RATIO = (*_DISTILL, "DISTILL.UNLABELED.MIX", "ratio", "SOLVER.IMS_PER_BATCH")


def _train_in_two(cfg: CfgNode, iterations: int, resume: bool = False) -> None:
    args = training_parser().parse_args(["--num-processes", "2"])
    url = Path(f"{cfg.OUTPUT_DIR}_rendezvous_{iterations}").as_uri()
    # fork: a spawned process could not import this file.
    torch.multiprocessing.start_processes(
        _worker,
        args=(lambda _: _train(cfg, iterations, resume), args, url),
        nprocs=2,
        start_method="fork",
    )


def test_two_processes_train_and_resume_with_boxes_of_the_teacher(root, tmp_path):
    whole, parts = (_config(root, tmp_path / name, *_RATIO, "4") for name in ("whole", "parts"))
    _train_in_two(whole, 2)
    _train_in_two(parts, 1)
    _train_in_two(parts, 2, resume=True)
    _assert_same(_weights(tmp_path / "parts"), _weights(tmp_path / "whole"))


@pytest.mark.parametrize("options", [(), _DISTILL])
def test_unlabeled_images_change_what_is_learned(root, tmp_path, options):
    _train(_config(root, tmp_path / "with", *options), 2)
    _train(_config(root, tmp_path / "without", *options, "DATASETS.UNLABELED", "()"), 2)
    left, right = _weights(tmp_path / "with"), _weights(tmp_path / "without")
    assert any(not torch.equal(left[key], right[key]) for key in left)


def test_batch_statistics_are_taken_from_labeled_images(root, tmp_path):
    options = ("TEST.PRECISE_BN.ENABLED", "True", "TEST.PRECISE_BN.NUM_ITER", "2")
    trainer = Trainer(_config(root, tmp_path, *_DISTILL, *options))
    (hook,) = [x for x in trainer._hooks if type(x).__name__ == "RepeatablePreciseBN"]
    batches = iter(hook._data_loader)
    assert not any(x.get("pseudo") for _ in range(9) for x in next(batches))


def test_the_report_counts_the_boxes_and_compares_them_with_the_truth(root, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger=unlabeled.__name__)
    cfg = _config(root, tmp_path)
    records = unlabeled_records(cfg)
    (path,) = (tmp_path / "pseudo_boxes").glob("*_report.json")
    report = json.loads(path.read_text())
    boxes = sum(len(x["annotations"]) for x in records)
    assert report["images"] == 3 == report["labeled_images"] + report["left_out_images"]
    assert report["boxes"] == boxes > 0
    assert report["boxes_per_image"] == pytest.approx(boxes / 3)
    assert sum(report["score_histogram"]["boxes"]) >= boxes
    assert 0 <= report["precision"] <= 1 and 0 <= report["recall"] <= 1
    messages = [x.getMessage() for x in caplog.records if x.name == unlabeled.__name__]
    (message,) = [x for x in messages if x.startswith("tiny_test: ")]
    assert "Precision" in message and "0.0-0.1" in message
    assert all(x["pseudo"] for x in records)


def test_nothing_above_the_threshold_is_refused(root, tmp_path):
    cfg = _config(root, tmp_path, *_BLIND)
    with pytest.raises(ValueError, match="lower DISTILL.UNLABELED.SCORE_THRESHOLD") as raised:
        Trainer(cfg)
    assert "\n" not in str(raised.value)
    (path,) = (tmp_path / "pseudo_boxes").glob("*_report.json")
    assert json.loads(path.read_text())["precision"] is None


def test_a_dataset_without_images_is_refused(root, tmp_path):
    DatasetCatalog.register("unlabeled_empty", list)
    cfg = _config(root, tmp_path, "DATASETS.UNLABELED", "('tiny_test', 'unlabeled_empty')")
    with pytest.raises(ValueError, match="DATASETS.UNLABELED has unlabeled_empty, which holds no"):
        Trainer(cfg)


def test_an_unknown_dataset_is_refused_before_training(root, tmp_path):
    command = ["--config-file", str(root / "tiny.yaml"), *_TINY_DATA]
    # Its teacher is known to be there by then.
    teacher = ["DISTILL.TEACHER.CONFIG_FILE", str(root / "tiny.yaml")]
    options = [*teacher, "DATASETS.UNLABELED", "('tiny_tset',)", "OUTPUT_DIR", str(tmp_path)]
    with pytest.raises(ValueError, match="DATASETS.UNLABELED has tiny_tset"):
        set_up(training_parser().parse_args([*command, *options]))


def test_without_unlabeled_images_no_teacher_is_asked(root, tmp_path):
    trainer = Trainer(_config(root, tmp_path, "DATASETS.UNLABELED", "()"))
    assert not (tmp_path / "pseudo_boxes").exists()
    assert len(trainer.data_loader.records) == 9


def test_boxes_move_with_the_augmentation(root, tmp_path):
    cfg = _config(root, tmp_path, "INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.RANDOM_FLIP", "none")
    records = {x["image_id"]: x for x in unlabeled_records(cfg)}
    loader = Trainer.build_train_loader(cfg, 0)
    batches = iter(loader)
    seen = [x for _ in range(12) for x in next(batches) if x.get("pseudo")]
    assert seen
    for sample in seen:
        record = records[sample["image_id"]]
        scale = np.array(sample["image"].shape[:0:-1]) / (record["width"], record["height"])
        expected = np.array([x["bbox"] for x in record["annotations"]]) * np.tile(scale, 2)
        np.testing.assert_allclose(
            sample["instances"].gt_boxes.tensor.numpy(), expected, rtol=1e-4, atol=1e-2
        )

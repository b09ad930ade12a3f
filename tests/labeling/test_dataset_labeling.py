"""The teacher labels a dataset once; its boxes are found again on disk, and never mixed up."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from helpers import tiny

from distill.build import build_teacher
from distill.data.loader import build_mapper
from distill.engine import pseudo_labeling
from distill.engine.setup import training_parser
from distill.labeling.dataset_labeling import label_datasets
from distill.utils.launch import _worker
from distill.views.teacher import FrozenTeacher

_NAME = "tiny_test"


def _teacher(**changes: Any) -> CfgNode:
    """A detector whose every score is kept, and which resizes its images."""
    return tiny.rcnn_cfg(
        **{
            "MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.06,
            "TEST__DETECTIONS_PER_IMAGE": 6,
            "INPUT__MIN_SIZE_TEST": 96,
            "DATASETS__TRAIN": ("tiny_cab",),
            **changes,
        }
    )


def _config(folder: Path, teacher: CfgNode | None = None, seed: int = 1, **changes: Any) -> CfgNode:
    reference = tiny.save_teacher(folder / "teacher", teacher or _teacher(), seed)
    return tiny.rcnn_cfg(
        **{
            "OUTPUT_DIR": str(folder / "run"),
            "DATASETS__UNLABELED": (_NAME,),
            "DATALOADER__NUM_WORKERS": 0,
            **reference,
            **changes,
        }
    )


def _label(cfg: CfgNode) -> Any:
    return label_datasets(cfg, {_NAME: DatasetCatalog.get(_NAME)})[_NAME]


def _count_teachers(monkeypatch: pytest.MonkeyPatch) -> list[CfgNode]:
    built: list[CfgNode] = []
    build = build_teacher

    def counted(cfg: CfgNode) -> FrozenTeacher:
        built.append(cfg)
        return build(cfg)

    monkeypatch.setattr(FrozenTeacher, "from_config", counted)
    return built


@pytest.mark.usefixtures("tiny_coco")
def test_boxes_are_the_teacher_s_in_pixels_of_the_image_and_the_student_s_classes(tmp_path):
    cfg = _config(tmp_path)
    labels = _label(cfg).labels
    model = tiny.build(_teacher(), 1).eval()
    records = DatasetCatalog.get(_NAME)
    for number, record in enumerate(records):
        sample = build_mapper(_teacher(), is_train=False)(record)
        assert sample["image"].shape[1:] != (record["height"], record["width"])
        with torch.no_grad():
            found = model([sample])[0]["instances"]
        own = labels.image == number
        assert own.sum() == len(found) > 0
        np.testing.assert_allclose(labels.boxes[own], found.pred_boxes.tensor.numpy(), atol=0.02)
        np.testing.assert_allclose(labels.scores[own], found.scores.numpy(), atol=1e-5)
        # The teacher's classes are cow, ant, bee; the student's ant, bee, cow.
        assert labels.classes[own].tolist() == [[2, 0, 1][x] for x in found.pred_classes]


@pytest.mark.usefixtures("tiny_coco")
def test_a_dataset_is_labeled_once_whatever_the_threshold(tmp_path, monkeypatch):
    built = _count_teachers(monkeypatch)
    first = _label(_config(tmp_path))
    again = _label(_config(tmp_path, DISTILL__UNLABELED__SCORE_THRESHOLD=0.9))
    assert len(built) == 1 and first.path == again.path
    np.testing.assert_array_equal(first.labels.boxes, again.labels.boxes)
    assert len(list(first.path.parent.iterdir())) == 1


@pytest.mark.usefixtures("tiny_coco")
@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"teacher": _teacher(INPUT__MIN_SIZE_TEST=64)},
        {"DISTILL__TEACHER__OPTS": ["MODEL.RPN.NMS_THRESH", "0.5"]},
        {"DISTILL__TEACHER__CLASSES": ("bee", "cow", "ant")},
    ],
)
def test_another_teacher_s_boxes_are_never_taken(tmp_path, monkeypatch, change):
    built = _count_teachers(monkeypatch)
    first = _label(_config(tmp_path))
    other = _label(_config(tmp_path, **change))
    assert len(built) == 2 and first.path != other.path
    assert first.path.is_file() and other.path.is_file()


@pytest.mark.usefixtures("tiny_coco")
def test_another_dataset_of_the_same_name_is_labeled_anew(tmp_path):
    cfg = _config(tmp_path)
    first = _label(cfg).path
    fewer = label_datasets(cfg, {_NAME: DatasetCatalog.get(_NAME)[:2]})[_NAME]
    assert fewer.path != first and fewer.labels.image.max() == 1


@pytest.mark.usefixtures("tiny_coco")
def test_a_teacher_that_was_moved_is_the_same(tmp_path, monkeypatch):
    built = _count_teachers(monkeypatch)
    cfg = _config(tmp_path)
    first = _label(cfg)
    moved = Path(cfg.DISTILL.TEACHER.WEIGHTS).rename(tmp_path / "elsewhere.pth")
    assert _label(tiny.changed(cfg, DISTILL__TEACHER__WEIGHTS=str(moved))).path == first.path
    assert len(built) == 1


@pytest.mark.usefixtures("tiny_coco")
@pytest.mark.parametrize("size", [0, 300])
def test_a_truncated_file_is_warned_of_and_written_anew(tmp_path, caplog, size):
    cfg = _config(tmp_path)
    first = _label(cfg)
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:size])
    caplog.set_level(logging.WARNING, logger=pseudo_labeling.__name__)
    again = _label(cfg)
    assert first.path.read_bytes() == whole
    np.testing.assert_array_equal(first.labels.boxes, again.labels.boxes)
    own = [x for x in caplog.records if x.name == pseudo_labeling.__name__]
    # Another test may have lowered the logger's level.
    (message,) = [x.getMessage() for x in own if x.levelno >= logging.WARNING]
    assert str(first.path) in message and "anew" in message


@pytest.mark.usefixtures("tiny_coco")
def test_the_boxes_lie_where_the_config_says_with_where_they_come_from(tmp_path):
    cfg = _config(tmp_path, DISTILL__UNLABELED__CACHE_DIR=str(tmp_path / "cache"))
    path = _label(cfg).path
    assert path.parent == tmp_path / "cache"
    info = json.loads(path.read_text())["info"]
    assert info["teacher_weights"] == cfg.DISTILL.TEACHER.WEIGHTS
    assert info["score_floor"] == 0.05


@pytest.mark.usefixtures("tiny_coco")
def test_a_teacher_without_weights_is_the_same_in_every_run(tmp_path):
    control = {"DISTILL__TEACHER__WEIGHTS": "", "DISTILL__TEACHER__ALLOW_RANDOM": True}
    boxes = []
    for run in "ab":
        torch.manual_seed(ord(run))
        boxes.append(_label(_config(tmp_path, OUTPUT_DIR=str(tmp_path / run), **control)))
    np.testing.assert_array_equal(boxes[0].labels.boxes, boxes[1].labels.boxes)


@pytest.mark.usefixtures("tiny_coco")
def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="DISTILL.TEACHER.WEIGHTS.*nowhere.pth"):
        _label(_config(tmp_path, DISTILL__TEACHER__WEIGHTS="nowhere.pth"))


@pytest.mark.usefixtures("tiny_coco")
def test_two_processes_share_the_labeling_and_have_the_same_boxes(tmp_path):
    cfg = _config(tmp_path)
    shared = tiny.changed(cfg, OUTPUT_DIR=str(tmp_path / "shared"))

    def work(args: Any) -> None:
        found = _label(shared).labels
        rank = torch.distributed.get_rank()
        np.savez(tmp_path / f"{rank}.npz", image=found.image, boxes=found.boxes)

    args = training_parser().parse_args(["--num-processes", "2"])
    url = (tmp_path / "rendezvous").as_uri()
    # fork: a spawned process could not import this file.
    torch.multiprocessing.start_processes(
        _worker, args=(work, args, url), nprocs=2, start_method="fork"
    )
    alone = _label(cfg).labels
    for rank in "01":
        found = np.load(tmp_path / f"{rank}.npz")
        np.testing.assert_array_equal(found["image"], alone.image)
        np.testing.assert_array_equal(found["boxes"], alone.boxes)


@pytest.mark.usefixtures("tiny_coco")
def test_a_dataset_whose_name_is_a_path_is_cached_in_the_folder_too(tmp_path):
    cfg = _config(tmp_path)
    name = str(tmp_path / "elsewhere" / "images.json")
    path = label_datasets(cfg, {name: DatasetCatalog.get(_NAME)})[name].path
    assert path.parent == tmp_path / "run" / "pseudo_boxes"
    assert path.name.startswith("images-") and path.is_file()

"""The teacher labels a dataset once; its boxes are found again on disk, and never mixed up."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import tiny

from distill.build import build_teacher
from distill.data.loader import build_mapper
from distill.data.pseudo.file import PseudoFile
from distill.data.registration import register_json_dataset
from distill.engine.setup import training_parser
from distill.labeling import generate, shards, unlabeled, unlabeled_job
from distill.labeling.unlabeled import unlabeled_records
from distill.utils.launch import _worker

_NAME = "tiny_test"
pytestmark = pytest.mark.usefixtures("tiny_coco")


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
            "DISTILL__UNLABELED__SCORE_THRESHOLD": 0.05,
            **reference,
            **changes,
        }
    )


def _files(folder: Path) -> list[Path]:
    found = (folder / "run" / "pseudo_boxes").glob("*.json")
    return sorted(path for path in found if not path.stem.endswith("_report"))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[CfgNode]:
    """The configs that teachers were built of."""
    configs: list[CfgNode] = []

    def count(cfg: CfgNode) -> Any:
        configs.append(cfg)
        return build_teacher(cfg)

    monkeypatch.setattr(unlabeled_job, "build_teacher", count)
    return configs


def test_boxes_are_the_teacher_s_in_pixels_of_the_image_and_the_student_s_classes(tmp_path):
    labeled = {x["image_id"]: x for x in unlabeled_records(_config(tmp_path))}
    model = tiny.build(_teacher(), 1).eval()
    for record in DatasetCatalog.get(_NAME):
        sample = build_mapper(_teacher(), is_train=False)(record)
        assert sample["image"].shape[1:] != (record["height"], record["width"])
        with torch.no_grad():
            found = model([sample])[0]["instances"]
        boxes = labeled[record["image_id"]]["annotations"]
        assert len(boxes) == len(found) > 0
        expected = found.pred_boxes.tensor.numpy()
        np.testing.assert_allclose([x["bbox"] for x in boxes], expected, atol=0.02)
        # The teacher's classes are cow, ant, bee; the student's ant, bee, cow.
        assert [x["category_id"] for x in boxes] == [[2, 0, 1][x] for x in found.pred_classes]


def test_a_dataset_is_labeled_once_whatever_the_threshold(tmp_path, built):
    first = unlabeled_records(_config(tmp_path))
    (path,) = _files(tmp_path)
    middle = float(np.median(PseudoFile.load(path).labels.scores))
    again = unlabeled_records(_config(tmp_path, DISTILL__UNLABELED__SCORE_THRESHOLD=middle))
    assert len(built) == 1 and len(_files(tmp_path)) == 1
    boxes = [[y["bbox"] for x in records for y in x["annotations"]] for records in (first, again)]
    assert 0 < len(boxes[1]) < len(boxes[0]) and all(box in boxes[0] for box in boxes[1])


def test_a_file_is_enough_to_train_on(tmp_path, built):
    cfg = _config(tmp_path)
    first = unlabeled_records(cfg)
    (path,) = _files(tmp_path)
    shutil.rmtree(path.with_suffix(""))
    assert unlabeled_records(cfg) == first and len(built) == 1
    assert not path.with_suffix("").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"teacher": _teacher(INPUT__MIN_SIZE_TEST=64)},
        {"DISTILL__TEACHER__OPTS": ["MODEL.RPN.NMS_THRESH", "0.5"]},
        {"DISTILL__TEACHER__CLASSES": ("bee", "cow", "ant")},
    ],
)
def test_another_teacher_s_boxes_are_never_taken(tmp_path, built, caplog, change):
    unlabeled_records(_config(tmp_path))
    caplog.set_level(logging.INFO, logger=unlabeled.__name__)
    unlabeled_records(_config(tmp_path, **change))
    assert len(built) == 2 and len(_files(tmp_path)) == 2
    assert "are of another teacher, list of images or version" in caplog.text


def test_another_dataset_of_the_same_name_is_labeled_anew(tmp_path, monkeypatch):
    unlabeled_records(_config(tmp_path))
    fewer = DatasetCatalog.get(_NAME)[:2]
    monkeypatch.setattr(DatasetCatalog, "get", lambda _: fewer)
    assert {x["image_id"] for x in unlabeled_records(_config(tmp_path))} <= {
        x["image_id"] for x in fewer
    }
    assert len(_files(tmp_path)) == 2


def test_a_teacher_that_was_moved_is_the_same(tmp_path, built):
    cfg = _config(tmp_path)
    unlabeled_records(cfg)
    moved = Path(cfg.DISTILL.TEACHER.WEIGHTS).rename(tmp_path / "elsewhere.pth")
    unlabeled_records(tiny.changed(cfg, DISTILL__TEACHER__WEIGHTS=str(moved)))
    assert len(built) == 1 and len(_files(tmp_path)) == 1


@pytest.mark.parametrize("size", [0, 300])
def test_a_truncated_file_is_warned_of_and_written_anew(tmp_path, caplog, size):
    cfg = _config(tmp_path)
    first = unlabeled_records(cfg)
    (path,) = _files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    caplog.set_level(logging.WARNING, logger=unlabeled.__name__)
    assert unlabeled_records(cfg) == first and path.read_bytes() == whole
    own = [x for x in caplog.records if x.name == unlabeled.__name__]
    # Another test may have lowered the logger's level.
    (message,) = [x.getMessage() for x in own if x.levelno >= logging.WARNING]
    assert str(path) in message and "anew" in message


def test_a_run_that_was_stopped_goes_on_with_what_is_labeled(tmp_path, monkeypatch):
    cfg = _config(tmp_path)
    whole = unlabeled_records(cfg)
    (path,) = _files(tmp_path)
    content = path.read_bytes()
    for leftover in (path, path.with_suffix("")):
        leftover.unlink() if leftover.is_file() else shutil.rmtree(leftover)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_result", stop)
        with pytest.raises(KeyboardInterrupt):
            unlabeled_records(cfg)
    assert not path.exists()
    # All images are in the shards: none is looked at again.
    monkeypatch.setattr(generate, "_label", stop)
    assert unlabeled_records(cfg) == whole and path.read_bytes() == content


def test_the_boxes_lie_where_the_config_says_with_where_they_come_from(tmp_path):
    cfg = _config(tmp_path, DISTILL__UNLABELED__CACHE_DIR=str(tmp_path / "cache"))
    unlabeled_records(cfg)
    (path,) = (x for x in (tmp_path / "cache").glob("*.json") if "_report" not in x.name)
    info = PseudoFile.load(path).info
    ((name, teacher),) = info["teachers"].items()
    assert name.startswith("teacher-") and teacher["weights"] == "teacher.pth"
    assert info["score_floor"] == 0.05 and info["dataset"] == _NAME


def test_the_file_is_a_dataset_of_pseudo_labels_too(tmp_path):
    unlabeled_records(_config(tmp_path))
    (path,) = _files(tmp_path)
    assert register_json_dataset(str(path)).class_names == ("cow", "ant", "bee")
    assert len(DatasetCatalog.get(str(path))) == 3


def test_boxes_of_an_earlier_version_stay_where_they_are(tmp_path, caplog):
    folder = tmp_path / "run" / "pseudo_boxes"
    folder.mkdir(parents=True)
    (folder / f"{_NAME}-0123456789abcdef.json").write_text("{}")
    caplog.set_level(logging.INFO, logger=unlabeled.__name__)
    assert unlabeled_records(_config(tmp_path))
    assert "they are not read" in caplog.text
    assert (folder / f"{_NAME}-0123456789abcdef.json").read_text() == "{}"


def test_a_teacher_without_weights_is_the_same_in_every_run(tmp_path):
    control = {"DISTILL__TEACHER__WEIGHTS": "", "DISTILL__TEACHER__ALLOW_RANDOM": True}
    records = []
    for run in "ab":
        torch.manual_seed(ord(run))
        cfg = _config(tmp_path, OUTPUT_DIR=str(tmp_path / run), **control)
        records.append(unlabeled_records(cfg))
    assert records[0] == records[1]


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DISTILL.TEACHER.WEIGHTS.*nowhere.pth"):
        unlabeled_records(_config(tmp_path, DISTILL__TEACHER__WEIGHTS="nowhere.pth"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DISTILL__TEACHER__CLASSES": ("ant", "bee")}, "does not know 1 of the student's 3"),
        (
            {"DISTILL__TEACHER__CLASSES": ("ant", "bee", "cow", "dog")},
            "DISTILL.TEACHER.CLASSES has 4 names|predicts 3 classes, but 4 names",
        ),
        (
            {"DISTILL__TEACHER__OPTS": ["DATASETS.TRAIN", "('tiny_unnamed',)"]},
            "tiny_unnamed .* set DISTILL.TEACHER.CLASSES",
        ),
    ],
)
def test_classes_that_do_not_fit_are_refused_in_one_sentence(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        unlabeled_records(_config(tmp_path, **changes))
    assert "\n" not in str(raised.value)


def test_two_processes_share_the_labeling_and_have_the_same_boxes(tmp_path):
    cfg = _config(tmp_path)
    shared = tiny.changed(cfg, OUTPUT_DIR=str(tmp_path / "shared"))

    def work(args: Any) -> None:
        rank = torch.distributed.get_rank()
        (tmp_path / f"{rank}.json").write_text(json.dumps(unlabeled_records(shared)))

    args = training_parser().parse_args(["--num-processes", "2"])
    url = (tmp_path / "rendezvous").as_uri()
    # fork: a spawned process could not import this file.
    torch.multiprocessing.start_processes(
        _worker, args=(work, args, url), nprocs=2, start_method="fork"
    )
    alone = json.dumps(unlabeled_records(cfg))
    assert [(tmp_path / f"{rank}.json").read_text() for rank in "01"] == [alone] * 2
    (path,) = _files(tmp_path)
    other = tmp_path / "shared" / "pseudo_boxes" / path.name
    assert other.read_bytes() == path.read_bytes()


def test_a_training_waits_for_another_that_labels_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shards, "_PATIENCE_SECONDS", 0)
    answers = iter([False, False, True])
    monkeypatch.setattr(shards.FolderLock, "take", lambda _: next(answers))
    caplog.set_level(logging.INFO, logger=generate.__name__)
    assert unlabeled_records(_config(tmp_path))
    assert caplog.text.count("this one waits for it") == 1


def test_a_dataset_whose_name_is_a_path_is_cached_in_the_folder_too(tmp_path):
    content = MetadataCatalog.get(_NAME).json_file
    name = f"{tmp_path / 'elsewhere' / 'images.json'}@{MetadataCatalog.get(_NAME).image_root}"
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(content, tmp_path / "elsewhere" / "images.json")
    unlabeled_records(_config(tmp_path, DATASETS__UNLABELED=(name,)))
    (path,) = _files(tmp_path)
    assert path.name.startswith("images-")

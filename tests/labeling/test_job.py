"""What is asked for is checked before anything is labeled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import tiny, tiny_labeling
from helpers.tiny_labeling import plan

from distill.data.pseudo.thresholds import Thresholds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_labeling.teacher(tmp_path / "teacher")
    tiny_labeling.write_noise(tmp_path / "images", 2)
    return tmp_path


def test_class_names_come_from_the_teachers_training_dataset_or_the_user(folder: Path) -> None:
    assert plan(folder).class_names == ("ant", "bee", "cow")
    assert plan(folder, classes=["x", "y", "z"]).class_names == ("x", "y", "z")


def test_unknown_class_names_have_to_be_given(folder: Path) -> None:
    opts = ["DATASETS.TRAIN", "('tiny_unnamed',)"]
    with pytest.raises(ValueError, match="tiny_unnamed .* give them with --classes"):
        plan(folder, opts=opts)
    assert plan(folder, opts=opts, classes=["x", "y", "z"]).class_names == ("x", "y", "z")
    with pytest.raises(ValueError, match="no DATASETS.TRAIN"):
        plan(folder, opts=["DATASETS.TRAIN", "()"])


def test_names_of_another_number_than_the_config_says_are_refused_before_the_weights(
    folder: Path,
) -> None:
    with pytest.raises(
        ValueError, match="predicts 3 classes, but 2 names are known .*MODEL.ROI_HEADS"
    ):
        plan(folder, classes=["x", "y"], weights="nowhere.pth")


def test_missing_files_are_named_by_their_options(folder: Path) -> None:
    for option, value in (("config_file", "no.yaml"), ("weights", "no.pth")):
        with pytest.raises(FileNotFoundError, match=f"--{option.replace('_', '-')}.* {value}"):
            plan(folder, **{option: value})


def test_evaluation_sets_are_refused_unless_forced(folder: Path) -> None:
    metadata = MetadataCatalog.get("pictures_val")
    metadata.image_root = str(folder / "images")
    DatasetCatalog.register("pictures_val", list)
    try:
        with pytest.raises(ValueError, match="pictures_val.*--force"):
            plan(folder)
        assert len(plan(folder, force=True).listing) == 2
    finally:
        DatasetCatalog.remove("pictures_val")
        MetadataCatalog.remove("pictures_val")


def test_a_folder_belongs_to_the_job_that_claimed_it(folder: Path) -> None:
    job = plan(folder)
    assert not job.is_finished()
    job.claim()
    plan(folder, num_workers=3).claim()
    job.result.write_text("{}")
    assert plan(folder).is_finished()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 2}, "--batch-size (1 there, 2 here)"),
        ({"score_floor": 0.1}, "--score-floor (0.05 there, 0.1 here)"),
        ({"precision": "bfloat16"}, "--precision (auto there, bfloat16 here)"),
        ({"tta": True}, "--tta (False there, True here)"),
        ({"classes": ["x", "y", "z"]}, "--classes"),
        ({"opts": ["INPUT.MIN_SIZE_TEST", "50"]}, "--config-file or --opts"),
        ({"opts": ["TEST.DETECTIONS_PER_IMAGE", "5"]}, "--config-file or --opts"),
        ({"opts": ["MODEL.ROI_HEADS.NMS_THRESH_TEST", "0.4"]}, "--config-file or --opts"),
        ({"thresholds": True}, "--thresholds"),
        ({"images": True}, "--images or --dataset"),
        ({"weights": True}, "--config-file or --weights"),
    ],
)
def test_another_job_is_refused_with_what_differs(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    plan(folder).claim()
    if "thresholds" in changes:
        changes = {"thresholds": str(folder / "t.json")}
        Thresholds(0.4).save(folder / "t.json")
    if "images" in changes:
        tiny_labeling.write_noise(folder / "others", 2)
        changes = {"images": str(folder / "others")}
    if "weights" in changes:
        other = tiny.save_teacher(folder / "other", tiny.rcnn_cfg(), seed=5)
        changes = {"weights": other["DISTILL__TEACHER__WEIGHTS"]}
    other_job = plan(folder, **changes)
    for refuse in (other_job.claim, other_job.is_finished):
        with pytest.raises(ValueError) as caught:
            refuse()
        assert f"made with another {words}" in str(caught.value)
        assert "choose another --output" in str(caught.value)


def test_an_image_more_is_another_job(folder: Path) -> None:
    plan(folder).claim()
    tiny_labeling.write_noise(folder / "images", 3)
    with pytest.raises(ValueError, match=r"another list of images \(2 there, 3 here\)"):
        plan(folder).claim()


def test_boxes_of_unknown_origin_and_damaged_notes_are_refused(folder: Path) -> None:
    job = plan(folder)
    job.result.write_text("{}")
    with pytest.raises(ValueError, match="boxes of unknown origin"):
        job.claim()
    job.result.unlink()
    job.claim()
    (note,) = job.output.iterdir()
    for damage in (note.read_text()[:40], "[]", "{}"):
        note.write_text(damage)
        with pytest.raises(ValueError, match="is damaged"):
            job.is_finished()


def test_the_header_tells_where_boxes_come_from(folder: Path) -> None:
    Thresholds(0.4, {"ant": 0.6}).save(folder / "t.json")
    job = plan(folder, thresholds=str(folder / "t.json"))
    info = job.header()
    (name, origin), *rest = info["teachers"].items()
    assert name == job.teacher == f"teacher-{job.weights_sha256[:8]}" and not rest
    assert (origin["config"], origin["weights"]) == ("teacher.yaml", "teacher.pth")
    assert info["thresholds"] == {name: {"default": 0.4, "classes": {"ant": 0.6}}}
    assert info["image_root"] == str(folder / "images")
    json.dumps(info)


def test_a_job_can_be_sent_to_other_processes(folder: Path) -> None:
    job = pickle.loads(pickle.dumps(plan(folder)))
    assert job.settings() == plan(folder).settings()
    assert list(job.listing) == [("0.png", 1), ("1.png", 2)]

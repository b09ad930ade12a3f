from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN
from distill.labeling.sources import load_labels, true_labels

_NAME = "sources_test"
_BOX = {"bbox": [1, 2, 4, 6], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}


class _Register:
    """Registers a dataset under one name, with metadata."""

    def __call__(self, records: list[dict[str, Any]], **metadata: Any) -> str:
        DatasetCatalog.register(_NAME, lambda: records)
        MetadataCatalog.get(_NAME).set(thing_classes=["ant", "bee"], **metadata)
        return _NAME


@pytest.fixture
def register() -> Iterator[_Register]:
    yield _Register()
    for catalog in (DatasetCatalog, MetadataCatalog):
        if _NAME in catalog.list():
            catalog.remove(_NAME)


def _record(name: str, *annotations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    size = {"width": 40, "height": 30}
    return {"file_name": name, **size, "annotations": list(annotations), **fields}


def _coco(path: Path, *names: str, **fields: Any) -> Path:
    images = [
        {"id": number, "file_name": name, "width": 40, "height": 30}
        for number, name in enumerate(names, start=1)
    ]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0}
    content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "bee"}]}
    path.write_text(json.dumps({**content, **fields}))
    return path


def test_a_dataset_s_labels_are_human_and_certain(register):
    size = {**_BOX, "bbox": [5, 5, 2, 3], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    records = [_record("/data/b/2.png", _BOX, image_id=9), _record("/data/a/1.png", image_id="x")]
    file = load_labels(register([*records, _record("/data/b/3.png", size, _BOX)]))
    assert file.info == {"dataset": _NAME, "image_root": "/data"}
    assert [x["file_name"] for x in file.images] == ["b/2.png", "a/1.png", "b/3.png"]
    # A record without an id takes its number, from 1 on.
    assert [x["id"] for x in file.images] == [9, "x", 3]
    assert file.class_names == ("ant", "bee") and file.teachers == (HUMAN,)
    assert file.labels.image.tolist() == [0, 2, 2]
    assert file.labels.boxes.tolist() == [[1, 2, 4, 6], [5, 5, 7, 8], [1, 2, 4, 6]]
    assert file.labels.classes.tolist() == [1, 0, 1]
    assert file.labels.scores.tolist() == [1, 1, 1]


def test_file_names_are_below_the_metadata_s_folder(register, tmp_path):
    (tmp_path / "b").mkdir()
    name = register([_record(str(tmp_path / "b" / "2.png"), _BOX)], image_root=str(tmp_path))
    file = load_labels(name)
    assert file.info["image_root"] == str(tmp_path)
    assert file.images[0]["file_name"] == "b/2.png"


def test_a_metadata_folder_that_lacks_the_images_is_not_taken(register, tmp_path):
    file = load_labels(register([_record("/data/2.png")], image_root=str(tmp_path)))
    assert (file.info["image_root"], file.images[0]["file_name"]) == ("/data", "2.png")


def test_crowds_are_kept_apart(register):
    crowd = {**_BOX, "category_id": 0, "iscrowd": 1}
    name = register([_record("/data/2.png", _BOX, crowd)])
    file = load_labels(name)
    assert file.labels.classes.tolist() == [1] and file.crowds.classes.tolist() == [0]


def test_what_is_loaded_of_a_dataset_can_be_saved(register, tmp_path):
    file = load_labels(register([_record("/data/2.png", _BOX)]))
    file.save(tmp_path / "labels.json")
    again = PseudoFile.load(tmp_path / "labels.json")
    assert again.images == file.images and again.info == file.info
    assert np.array_equal(again.labels.boxes, file.labels.boxes)


def test_labels_that_are_kept_aside_are_found(register, tmp_path):
    path = _coco(tmp_path / "truth.json", "2.png")
    name = register(
        [_record(str(tmp_path / "2.png"))], image_root=str(tmp_path), labels_json=str(path)
    )
    file = load_labels(name)
    assert file.labels.boxes.tolist() == [[1, 2, 4, 6]]
    assert file.info == {"dataset": _NAME, "image_root": str(tmp_path)}


@pytest.mark.parametrize(("root", "expected"), [("images", "images"), ("", ""), ("/data", "/data")])
def test_a_file_s_folder_is_relative_to_it(tmp_path, root, expected):
    path = _coco(tmp_path / "labels.json", "2.png", info={"image_root": root})
    expected = str(tmp_path / expected) if expected == "images" else expected
    assert load_labels(str(path)).info["image_root"] == expected


def test_a_folder_may_be_named_with_the_file(tmp_path):
    path = _coco(tmp_path / "labels.json", "2.png")
    assert load_labels(f"{path}@{tmp_path}").info["image_root"] == str(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_labels(f"{path}@{tmp_path}/nowhere")


def test_an_unknown_name_is_answered_with_the_option():
    with pytest.raises(ValueError, match="--truth has digits_tran, .*did you mean digits_train"):
        load_labels("digits_tran", option="--truth")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "holds no image"),
        ([{"file_name": "/data/1.png", "height": 3}], "lack 'width'"),
        ([_record("/data/1.png", {"bbox": [1, 2, 3, 4], "category_id": 0})], "lack 'bbox_mode'"),
        ([_record("/data/1.png", {**_BOX, "bbox": [1, 2, 3, 4, 5]})], "5 numbers"),
        ([_record("/data/1.png", {**_BOX, "category_id": 2})], "class 2 without a name"),
    ],
)
def test_bad_records_are_named_in_one_sentence(register, records, message):
    with pytest.raises(ValueError, match=f"--labels has {_NAME}, .*{message}"):
        load_labels(register(records))


def test_true_labels_are_those_kept_aside_or_the_records_own(register, tmp_path):
    path = _coco(tmp_path / "truth.json", "2.png")
    records = [_record(str(tmp_path / "2.png"), _BOX, {**_BOX, "category_id": 0}, image_id=1)]
    assert len(true_labels(register(records), records).labels) == 2
    MetadataCatalog.get(_NAME).set(labels_json=str(path), image_root=str(tmp_path))
    assert true_labels(_NAME, records).labels.boxes.tolist() == [[1, 2, 4, 6]]


def test_without_any_label_or_with_bad_ones_no_truth_is_known(register, caplog):
    caplog.set_level(logging.INFO)
    bare, bad = _record("/data/1.png"), _record("/data/1.png", {**_BOX, "category_id": 7})
    register([bare])
    assert true_labels(_NAME, [bare]) is None and not caplog.messages
    assert true_labels(_NAME, [bad]) is None
    assert "a class 7 without a name" in caplog.text


def test_true_labels_need_no_sizes(register):
    record = {"file_name": "/data/1.png", "image_id": 4, "annotations": [_BOX]}
    assert true_labels(register([record]), [record]).labels.classes.tolist() == [1]

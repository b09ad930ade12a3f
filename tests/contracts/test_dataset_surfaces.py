"""Wherever a COCO file is named, the same files are taken, with the same boxes, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode
from helpers import tiny
from PIL import Image

from distill.checks import check_config
from distill.data.pseudo.records import load_pseudo_records
from distill.labeling.sources import dataset_records, load_labels

Content = dict[str, Any]
CLASSES = ("ant", "bee", "cow")
NAN = float("nan")


def _each(part: str, **changes: Callable[[Any], Any]) -> Callable[[Content], None]:
    """Changes keys of all entries of a part; a change is a function of the old value."""

    def change(content: Content) -> None:
        for entry in content[part]:
            entry.update({key: value(entry.get(key)) for key, value in changes.items()})

    return change


def _text_ids(content: Content) -> None:
    for part, key in (("images", "id"), ("annotations", "image_id")):
        _each(part, **{key: str})(content)


def _root(content: Content) -> None:
    _each("categories", supercategory=lambda _: "insects")(content)
    content["categories"].append({"id": 0, "name": "insects", "supercategory": "none"})


TAKEN: dict[str, Callable[[Content], Any]] = {
    "as it should be": lambda content: None,
    "ids as text": _text_ids,
    "numbers as text": _each("annotations", bbox=lambda box: [str(x) for x in box]),
    "iscrowd null": _each("annotations", iscrowd=lambda _: None),
    "large ids": _each("annotations", id=lambda i: 2**60 + i),
    "a polygon of two points": _each("annotations", segmentation=lambda _: [[1, 2, 3, 4]]),
    "categories in another order": lambda content: content["categories"].reverse(),
    "a root category": _root,
    "sizes as text": _each("images", width=str, height=str),
}
REFUSED: dict[str, Callable[[Content], Any]] = {
    "a box that is no number": _each("annotations", bbox=lambda box: [NAN, *box[1:]]),
    "a box of three numbers": _each("annotations", bbox=lambda box: box[:3]),
    "an unknown category": _each("annotations", category_id=lambda _: 9),
    "an unknown image": _each("annotations", image_id=lambda _: 9),
    "no name": _each("images", file_name=lambda _: None),
    "no width": _each("images", width=lambda _: 0),
    "one name of two classes": _each("categories", name=lambda _: "ant"),
    "no images": lambda content: content.pop("images"),
    "no categories": lambda content: content.pop("categories"),
    "annotations that are no list": lambda content: content.update(annotations=5),
}


def _boxes(records: Iterable[dict[str, Any]]) -> list[Any]:
    """Of each image its name, and classes and corners of its boxes."""
    rows = []
    for record in records:
        boxes = [
            [x["category_id"], *BoxMode.convert(list(x["bbox"]), x["bbox_mode"], BoxMode.XYXY_ABS)]
            for x in record["annotations"]
        ]
        rows.append([os.path.basename(record["file_name"]), sorted(boxes)])
    return sorted(rows)


def _from_config(key: str) -> Callable[[Path, str], Any]:
    def read(folder: Path, name: str) -> Any:
        cfg = tiny.distilled(tiny.rcnn_cfg(), **tiny.save_teacher(folder / "teacher", _teacher()))
        train = () if key == "PSEUDO" else (str(folder / "plain.json"),)
        cfg = tiny.changed(cfg, DATASETS__TRAIN=train, DATASETS__TEST=())
        cfg = tiny.changed(cfg, **{f"DATASETS__{key}": (name,)}, DISTILL__TEACHER__CLASSES=CLASSES)
        check_config(cfg)
        read = DatasetCatalog.get(name) if key != "PSEUDO" else load_pseudo_records(cfg, name)
        return _boxes(read)

    return read


def _teacher() -> Any:
    return tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12)


def _labels(folder: Path, name: str) -> Any:
    file = load_labels(name)
    rows = {i: [os.path.basename(x["file_name"]), []] for i, x in enumerate(file.images)}
    columns = (file.labels.image, file.labels.classes, file.labels.boxes)
    for image, category, box in zip(*(x.tolist() for x in columns), strict=True):
        rows[image][1].append([category, *box])
    return sorted([image, sorted(boxes)] for image, boxes in rows.values())


SURFACES: dict[str, Callable[[Path, str], Any]] = {
    **{f"DATASETS.{key}": _from_config(key) for key in ("TRAIN", "TEST", "UNLABELED", "PSEUDO")},
    "--labels": _labels,
    "--dataset": lambda folder, name: _boxes(dataset_records(name, "--dataset")),
}


def _outcomes(folder: Path, change: Callable[[Content], Any]) -> dict[str, Any]:
    """What each surface reads the changed file as; None where it refuses it."""
    content = _coco()
    (folder / "images").mkdir()
    for image in content["images"]:
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(
            folder / "images" / image["file_name"]
        )
    (folder / "plain.json").write_text(json.dumps({**content, "info": {"image_root": "images"}}))
    change(content)
    (folder / "changed.json").write_text(json.dumps(content))
    return {key: _outcome(read, folder) for key, read in SURFACES.items()}


def _outcome(read: Callable[[Path, str], Any], folder: Path) -> Any:
    try:
        return read(folder, f"{folder}/changed.json@{folder}/images")
    except (ValueError, FileNotFoundError) as error:
        assert "changed.json" in str(error)
        return None


def _coco() -> Content:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(1, 4)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i, "bbox": [4, 5, 20 + i, 22], "iscrowd": 0}
            for i in range(1, 4)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
    }


@pytest.mark.parametrize("name", TAKEN)
def test_a_file_is_taken_with_the_same_boxes_wherever_it_is_named(
    tmp_path: Path, name: str
) -> None:
    outcomes = _outcomes(tmp_path, TAKEN[name])
    expected = [[f"{i}.png", [[i - 1, 4, 5, 24 + i, 27]]] for i in range(1, 4)]
    assert {key: found == expected for key, found in outcomes.items()} == dict.fromkeys(
        SURFACES, True
    ), outcomes


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused_wherever_it_is_named(tmp_path: Path, name: str) -> None:
    assert _outcomes(tmp_path, REFUSED[name]) == dict.fromkeys(SURFACES)

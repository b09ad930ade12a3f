"""What a COCO file may hold, and what is wrong with others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN


def _coco(**changes: Any) -> dict[str, Any]:
    """Plain COCO labels of two images."""
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 40, "height": 30, "license": 2},
            {"id": 2, "file_name": "b.png", "width": 40, "height": 30},
        ],
        "categories": [{"id": 4, "name": "ant"}, {"id": 9, "name": "bee"}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 12},
            {"id": 2, "image_id": 1, "category_id": 4, "bbox": [5, 6, 7, 8], "iscrowd": 0},
        ],
    }
    return {**content, **changes}


def _write(folder: Path, content: Any) -> Path:
    path = folder / "labels.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_plain_coco_labels_are_human_and_certain(tmp_path):
    file = PseudoFile.load(_write(tmp_path, _coco()))
    assert file.teachers == (HUMAN,)
    assert file.info == {"image_root": "", "dataset": None}
    # In the order of the images, with the classes by place and corners for sizes.
    assert file.labels.image.tolist() == [0, 1]
    assert file.labels.classes.tolist() == [0, 1]
    assert file.labels.boxes.tolist() == [[5, 6, 12, 14], [1, 2, 4, 6]]
    assert file.labels.scores.tolist() == [1, 1]
    assert file.images == _coco()["images"]


def test_crowds_are_kept_apart(tmp_path):
    content = _coco()
    content["annotations"][0]["iscrowd"] = 1
    path = _write(tmp_path, content)
    file = PseudoFile.load(path)
    assert file.labels.classes.tolist() == [0]
    assert file.crowds.classes.tolist() == [1]


def test_boxes_without_an_area_are_kept(tmp_path):
    content = _coco()
    content["annotations"][0]["bbox"] = [1, 2, 0, 4]
    assert PseudoFile.load(_write(tmp_path, content)).labels.boxes[1].tolist() == [1, 2, 1, 6]


def _box(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update(changes)


def _image(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["images"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_box(image_id=8), "the image_id 8 of box 1 is not listed"),
        (_box(category_id=1), "the category_id 1 of box 1 is not listed"),
        (_box(bbox=[1, 2, -3, 4]), "box 1 has the bbox .*sizes not negative"),
        (_box(bbox=[1, 2, 3, -0.5]), "box 1 has the bbox .*sizes not negative"),
        (_box(bbox=[1, 2, 3]), "box 1 has the bbox"),
        (_box(bbox=[1, 2, 3, 4, 5]), "box 1 has the bbox"),
        (_box(bbox=[1, 2, math.nan, 4]), "box 1 has the bbox .*finite"),
        (_box(bbox=[math.inf, 2, 3, 4]), "box 1 has the bbox .*finite"),
        (_box(bbox=None), "box 1 has the bbox None"),
        (_box(score=math.nan), "box 1 has the score nan"),
        (_box(score=1.5), "box 1 has the score 1.5"),
        (_box(score=-0.1), "box 1 has the score -0.1"),
        (_box(score="high"), "box 1 has the score high"),
        (_box(score=None), "box 1 has the score None"),
        (lambda x: x.update(info={"teachers": 3}), "'teachers' in its info is 3"),
        (lambda x: x.update(info={"teachers": {"a": 3}}), "'teachers' in its info is {'a': 3}"),
        (lambda x: x.update(info={"thresholds": [1]}), r"'thresholds' in its info is \[1\]"),
        (lambda x: x.update(info={"counts": {"skipped": "x"}}), "'counts' in its info"),
        (lambda x: x.update(info={"score_floor": math.nan}), "'score_floor' in its info is nan"),
        (lambda x: x.update(info={"image_root": 3}), "'image_root' in its info is 3"),
        (lambda x: x.update(info={"image_root": "a\0b"}), "which no path can be"),
        (_image(id=2), "id 2 is there twice in its images"),
        (_image(width=-40), "image 1 has the size -40 x 30"),
        (_image(height=math.nan), "image 1 has the size 40 x nan"),
        (lambda x: x["categories"][0].update(id=9), "id 9 is there twice in its categories"),
        (lambda x: x["categories"][0].update(name="bee"), "'bee' is there twice in its categories"),
        (lambda x: x["images"][0].pop("file_name"), "'file_name' is missing"),
        (lambda x: x["annotations"][0].pop("bbox"), "'bbox' is missing"),
        (lambda x: x.pop("annotations"), "'annotations' is missing"),
        (lambda x: x.pop("images"), "'images' is missing"),
        (lambda x: x.update(images=3), "no COCO file of boxes"),
    ],
)
def test_bad_content_is_named_in_one_sentence(tmp_path, change, message):
    content = _coco()
    change(content)
    with pytest.raises(ValueError, match=message) as error:
        PseudoFile.load(_write(tmp_path, content))
    assert "labels.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[], 3, None, [{"image_id": 1, "bbox": [1, 2, 3, 4]}]])
def test_another_json_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"labels\.json is no COCO file of boxes"):
        PseudoFile.load(_write(tmp_path, content))

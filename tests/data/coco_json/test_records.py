"""Records are those of Detectron2's reader, where that can read a file."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json
from helpers.coco_files import coco, write_coco

from distill.data.coco_json.records import load_coco_records

_NAMES = ("records_ours", "records_theirs")
_SQUARE = [4, 4, 24, 4, 24, 24, 4, 24]
_RUNS = [200, 20, *([28, 20] * 19), 48 * 64 - 220 - 48 * 19]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name in _NAMES:
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)


def _content() -> dict[str, Any]:
    """All that Detectron2's records have: polygons, both kinds of RLE, keypoints, crowds."""
    content = coco()
    content["images"].reverse()
    first, second, third, fourth = content["annotations"]
    first["segmentation"] = [_SQUARE, [float(x) for x in _SQUARE]]
    second |= {"segmentation": {"size": [48, 64], "counts": _RUNS}, "iscrowd": 1}
    third |= {"segmentation": {"size": [48, 64], "counts": "PPYo1"}, "extra": {"x": 1}}
    fourth |= {"keypoints": [1, 2, 2, 0, 0, 0], "num_keypoints": 1}
    return content


def test_records_are_those_of_detectron2(tmp_path):
    path = write_coco(tmp_path / "labels.json", _content())
    ours = load_coco_records(path, tmp_path, _NAMES[0], ["extra"])
    theirs = load_coco_json(str(path), str(tmp_path), _NAMES[1], ["extra"])
    assert ours == theirs
    plain = load_coco_records(path, str(tmp_path))
    assert plain == load_coco_json(str(path), str(tmp_path))
    first, second = (MetadataCatalog.get(name).as_dict() for name in _NAMES)
    assert {**first, "name": ""} == {**second, "name": ""}


def test_reading_again_gives_the_same(tmp_path):
    path = write_coco(tmp_path / "labels.json", _content())
    first = load_coco_records(path, tmp_path, _NAMES[0])
    kept = copy.deepcopy(first)
    assert load_coco_records(path, tmp_path, _NAMES[0]) == kept == first


def test_a_box_with_a_broken_mask_counts_without_it(tmp_path, caplog):
    content = coco()
    far = [[0, 0, 1e9, 0, 1e9, 1e9]]
    masks = [far, {"size": [1, 2], "counts": "x"}, [[1, 2, 3, 4, "x", 6]], []]
    for box, mask in zip(content["annotations"], masks, strict=True):
        box["segmentation"] = mask
    path = write_coco(tmp_path / "labels.json", content)
    for _ in range(2):
        records = load_coco_records(path, tmp_path, _NAMES[0])
    boxes = [box for record in records for box in record["annotations"]]
    assert len(boxes) == 4 and not any("segmentation" in box for box in boxes)
    assert len(caplog.messages) == 1 and "3 masks are no polygon" in caplog.messages[0]


@pytest.mark.parametrize("points", [[1, "x", 2], [1, 2], "123", True, [1, 2, [3]], {"x": 1}])
def test_keypoints_that_are_no_numbers_are_named(tmp_path, points):
    content = coco()
    content["annotations"][2]["keypoints"] = points
    content["categories"][0]["keypoints"] = True
    path = write_coco(tmp_path / "labels.json", content)
    shown = re.escape(str(points))
    with pytest.raises(ValueError, match=f"labels.json: box 3 has the keypoints {shown}: write x"):
        load_coco_records(path, tmp_path)


def test_text_and_numbers_as_ids_leave_the_images_in_the_file_s_order(tmp_path):
    content = coco(annotations=[])
    content["images"][0]["id"] = "b"
    path = write_coco(tmp_path / "labels.json", content)
    assert [x["image_id"] for x in load_coco_records(path, tmp_path)] == ["b", 2]


def _with_root(tmp_path: Path) -> Path:
    root = {"id": 0, "name": "insects", "supercategory": "none"}
    categories = [{**x, "supercategory": "insects"} for x in coco()["categories"]]
    return write_coco(tmp_path / "labels.json", coco(categories=[root, *categories]))


def test_a_parent_is_no_class_unless_the_metadata_have_it(tmp_path):
    path = _with_root(tmp_path)
    first = load_coco_records(path, tmp_path, _NAMES[0])
    assert [x["category_id"] for x in first[0]["annotations"]] == [0, 1]
    assert MetadataCatalog.get(_NAMES[0]).thing_classes == ["ant", "bee"]
    MetadataCatalog.get(_NAMES[1]).thing_classes = ["insects", "ant", "bee"]
    second = load_coco_records(path, tmp_path, _NAMES[1])
    assert [x["category_id"] for x in second[0]["annotations"]] == [1, 2]


def test_metadata_with_other_classes_are_refused(tmp_path):
    path = write_coco(tmp_path / "labels.json", coco())
    MetadataCatalog.get(_NAMES[0]).thing_classes = ["bee", "ant"]
    with pytest.raises(ValueError, match="registered with the thing_classes .*: leave"):
        load_coco_records(path, tmp_path, _NAMES[0])


def test_keypoint_names_pairs_and_connections_come_from_the_categories(tmp_path):
    content = coco()
    names = ["nose", "left_eye", "right_eye", "l-ear", "r-ear", "Tail"]
    content["categories"][0] |= {
        "keypoints": names,
        "skeleton": [[1, 2], [1, 3], [9, 1], "x", 3, True],
    }
    load_coco_records(write_coco(tmp_path / "labels.json", content), tmp_path, _NAMES[0])
    metadata = MetadataCatalog.get(_NAMES[0])
    assert metadata.keypoint_names == tuple(names)
    pairs = {frozenset(pair) for pair in metadata.keypoint_flip_map}
    assert pairs == {frozenset(names[1:3]), frozenset(names[3:5])}
    rules = [rule[:2] for rule in metadata.keypoint_connection_rules]
    assert rules == [("nose", "left_eye"), ("nose", "right_eye")]


def test_categories_with_different_keypoints_are_refused(tmp_path):
    content = coco()
    for category, names in zip(content["categories"], (["a"], ["b"]), strict=True):
        category["keypoints"] = names
    path = write_coco(tmp_path / "labels.json", content)
    with pytest.raises(ValueError, match="'ant' and 'bee' have different keypoints"):
        load_coco_records(path, tmp_path, _NAMES[0])

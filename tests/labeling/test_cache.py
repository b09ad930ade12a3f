from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.three_images import RECORDS, three_boxes

from distill.labeling.cache import load_pseudo_labels, save_pseudo_labels


def _saved(folder, key="k"):
    path = folder / "boxes.json"
    save_pseudo_labels(path, three_boxes(), RECORDS, ("ant", "bee"), {"key": key})
    return path


def test_a_score_at_the_threshold_is_not_above_it():
    assert three_boxes().above(0.6).scores.tolist() == [0.9]


def test_boxes_come_back_from_the_disk(tmp_path):
    read = load_pseudo_labels(_saved(tmp_path), RECORDS, "k")
    for name in ("image", "boxes", "scores", "classes"):
        np.testing.assert_allclose(getattr(read, name), getattr(three_boxes(), name))
    assert read.counts(3).tolist() == [2, 0, 1]


def test_the_file_is_coco_s_with_scores(tmp_path):
    content = json.loads(_saved(tmp_path).read_text())
    assert content["categories"] == [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]
    assert content["images"][1] == {"id": 8, "file_name": "b.png", "width": 30, "height": 20}
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 7,
        "category_id": 2,
        "bbox": [1.0, 2.0, 4.5, 7.25],
        "area": 32.62,
        "iscrowd": 0,
        "score": 0.9,
        "teacher": "teacher",
    }


@pytest.mark.parametrize("damage", ["truncated", "empty", "no box", "another image", "another key"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = _saved(tmp_path)
    content = json.loads(path.read_text())
    if damage == "no box":
        del content["annotations"][0]["bbox"]
    if damage == "another image":
        content["annotations"][0]["image_id"] = 1
    if damage == "another key":
        content["info"]["key"] = "other"
    text = json.dumps(content)
    path.write_text({"truncated": text[:200], "empty": "[]"}.get(damage, text))
    with pytest.raises(ValueError, match="boxes.json"):
        load_pseudo_labels(path, RECORDS, "k")


def test_a_dataset_without_any_box_is_kept_too(tmp_path):
    path = tmp_path / "none.json"
    save_pseudo_labels(path, three_boxes().above(1.0), RECORDS, ("ant",), {"key": "k"})
    read = load_pseudo_labels(path, RECORDS, "k")
    assert len(read) == 0 and read.boxes.shape == (0, 4)

"""Boxes as they are written: rounded, piece by piece, as json writes them."""

from __future__ import annotations

import itertools
import json

import numpy as np

from distill.data.pseudo.writing import annotations, write_pseudo_file

_IMAGES = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (7, 3)]


def test_generators_are_written_as_lists_are(tmp_path):
    rows = np.array([[0, 0, 2, 3, 0.5, 0], [1, 1, 2, 2, 1, 1]])
    boxes = list(annotations((7, 3), rows, itertools.repeat("ssd")))
    write_pseudo_file(tmp_path / "a.json", {}, _IMAGES, ("x", "y"), boxes)
    write_pseudo_file(tmp_path / "b.json", {}, (x for x in _IMAGES), ("x", "y"), iter(boxes))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_boxes_are_rounded_to_a_hundredth_of_a_pixel_and_five_digits_of_score():
    rows = np.array([[1.234, 2, 4.001, 9.996, 0.1234567, 2]])
    (box,) = annotations(itertools.repeat(5), rows, itertools.repeat("ssd"))
    assert box == {
        "image_id": 5,
        "category_id": 3,
        "bbox": [1.23, 2, 2.77, 8],
        "area": 22.16,
        "iscrowd": 0,
        "score": 0.12346,
        "teacher": "ssd",
    }
    assert list(annotations(itertools.repeat(5), rows[:0], itertools.repeat("ssd"))) == []


def test_a_box_is_written_as_json_writes_it(tmp_path):
    rows = np.array([[0, 0.5, 1e-2, 100_000, 1e-5, 0], [1, 2, 3, 4, 1, 1]])
    rows = np.concatenate([rows, [[0, 0, 1, 1, 0.5, 0]]])
    boxes = list(annotations(("蜂\n", "蜂\n", 1), rows, ('a "b" \\ ü', "ssd", "ssd")))
    write_pseudo_file(tmp_path / "x.json", {}, [], ("a", "b"), boxes)
    lines = (tmp_path / "x.json").read_text(encoding="utf-8").splitlines()[-3:]
    expected = [json.dumps({"id": i, **x}, ensure_ascii=False) for i, x in enumerate(boxes, 1)]
    assert [line.removesuffix(",").removesuffix("]}") for line in lines] == expected

"""The page's own script, in Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.pseudo_pages import TEN, Page, pseudo_file, true_labels, write_images

from distill.labeling import view
from distill.labeling.view import write_view

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="the page's script is run by Node.js, which is missing"
)

_LOGIC = (Path(view.__file__).parent / "view_page" / "logic.js").read_text()
_ALL = {"threshold": 0, "class": -1, "teacher": -1, "labels": True, "sort": "file", "text": ""}
_AT = [0, 0, 10, 10]


def _box(score: float, category: int = 0, teacher: int = 0, right: int | None = None) -> list:
    return [*_AT, score, category, teacher, right]


def _image(name: str, *boxes: list, labels: list[int] | None = None) -> dict:
    rows = None if labels is None else [[*_AT, 1, category, 0] for category in labels]
    return {"name": name, "width": 40, "height": 40, "boxes": boxes, "labels": rows}


_IMAGES = [
    _image("One.png", _box(0.9, 0, 0, 1), _box(0.3, 1, 1, 0), labels=[0, 1]),
    _image("two.png"),
    _image("three.png", _box(0.5, 1, 1, 1), _box(0.7, 0, 0, 1), _box(0.6, 0, 1), labels=[1, 0]),
    _image("four.png", labels=[0]),
]


def _run(script: str, *arguments) -> object:
    source = f"{_LOGIC}\nconst args = {json.dumps(arguments)};\n{script}"
    command = ["node", "-e", source]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _select(**changes) -> list[dict]:
    return _run(
        "console.log(JSON.stringify(selectImages(...args).map((x) => ({name: x.image.name, "
        "scores: x.boxes.map((b) => b[SCORE]), labels: x.labels.length, "
        "unmatched: x.unmatched}))));",
        _IMAGES,
        {**_ALL, **changes},
    )


def _names(**changes) -> list[str]:
    return [item["name"].removesuffix(".png") for item in _select(**changes)]


def test_boxes_at_the_threshold_vanish_and_no_image_does():
    items = _select(threshold=0.5)
    assert [item["scores"] for item in items] == [[0.9], [], [0.7, 0.6], []]


def test_a_class_leaves_images_with_a_box_or_label_of_it():
    items = _select(**{"class": 1})
    assert [(x["name"], x["scores"], x["labels"]) for x in items] == [
        ("One.png", [0.3], 1),
        ("three.png", [0.5], 1),
    ]
    assert _names(**{"class": 0}) == ["One", "three", "four"]
    assert _names(**{"class": 0}, labels=False) == ["One", "three"]


def test_a_teacher_leaves_its_boxes():
    assert [x["scores"] for x in _select(teacher=1, labels=False)] == [[0.3], [0.5, 0.6]]


def test_names_are_searched_in_any_case():
    assert _names(text="ONE") == ["One"] and _names(text="o") == ["One", "two", "four"]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("file", ["One", "two", "three", "four"]),
        ("boxes", ["three", "One", "two", "four"]),
        ("score", ["One", "three", "two", "four"]),
        # 2 (a wrong box, a label without one), 1, 0; then what is not labeled.
        ("unmatched", ["One", "four", "three", "two"]),
    ],
)
def test_images_are_sorted_and_equal_ones_stay_in_order(sort, names):
    assert _names(sort=sort) == names


def test_unmatched_are_counted_at_the_threshold_whether_labels_are_shown_or_not():
    for labels in (True, False):
        assert [x["unmatched"] for x in _select(labels=labels)] == [2, None, 0, 1]
        # Without its box of 0.5 a label of the third image has none left.
        assert [x["unmatched"] for x in _select(threshold=0.5, labels=labels)] == [1, None, 1, 1]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, [0, 3, 0, [0, 1]]), (2, [2, 3, 4, [4]]), (9, [2, 3, 4, [4]]), (-1, [0, 3, 0, [0, 1]])],
)
def test_pages_end_at_the_first_and_the_last(number, expected):
    script = "const p = pageOf(...args); console.log(JSON.stringify(Object.values(p)));"
    assert _run(script, list(range(5)), number, 2) == expected


def test_no_image_makes_one_empty_page():
    script = "const p = pageOf(...args); console.log(JSON.stringify(Object.values(p)));"
    assert _run(script, [], 0, 2) == [0, 1, 0, []]


def test_the_script_in_a_page_is_whole_and_reads_its_data(tmp_path):
    write_images(tmp_path, "a.png")
    pseudo = pseudo_file(["a.png"], (0, TEN, 0.9, 0), (0, (0, 0, 4, 4), 0.8, 1))
    labels = true_labels(["a.png"], (0, TEN, 0), (0, TEN, 1))
    options = {"title": "t", "image_root": tmp_path, "labels": labels}
    page = Page(write_view(pseudo, tmp_path / "page.html", **options).page)
    check = "new (require('vm').Script)(args[0]); console.log('true');"
    assert _run(check, page.script) is True
    script = "console.log(JSON.stringify(selectImages(...args)[0].unmatched));"
    assert _run(script, page.images, _ALL) == 2

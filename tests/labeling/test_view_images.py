from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pytest
from helpers.pseudo_pages import FAR, TEN, pseudo_file, true_labels, write_images
from PIL import Image

from distill.labeling.view_images import image_source, page_images

_NAMES = ["a.png", "b.png", "c.png"]
_CLASSES = ("ant", "bee")


def test_boxes_are_rows_of_their_image():
    teachers = {"teachers": ("S", "T")}
    rows = ((0, (1, 2.126, 3, 4), 0.123456, 1, 1), (2, TEN, 0.5, 0, 0), (2, FAR, 0.25, 1, 1))
    entries = page_images(pseudo_file(_NAMES, *rows, **teachers), [0, 1, 2], _CLASSES)
    assert [x["name"] for x in entries] == _NAMES
    assert [x["boxes"] for x in entries] == [
        [[1, 2.13, 3, 4, 0.12346, 1, 1, None]],
        [],
        [[*TEN, 0.5, 0, 0, None], [*FAR, 0.25, 1, 1, None]],
    ]
    assert [x["labels"] for x in entries] == [None, None, None]


def test_only_the_chosen_images_come():
    pseudo = pseudo_file(_NAMES, (0, TEN, 0.9, 0), (2, FAR, 0.8, 1))
    (entry,) = page_images(pseudo, [2], _CLASSES)
    assert entry["name"] == "c.png" and entry["boxes"] == [[*FAR, 0.8, 1, 0, None]]


def test_a_box_is_right_if_it_is_the_best_of_its_class_on_a_label():
    rows = ((0, TEN, 0.6, 0), (0, (0, 0, 10, 9), 0.9, 0), (0, FAR, 0.8, 0), (1, TEN, 0.7, 0))
    labels = true_labels(_NAMES, (0, TEN, 0), (0, FAR, 1))
    first, second, _ = page_images(pseudo_file(_NAMES, *rows), [0, 1, 2], _CLASSES, labels)
    assert [row[-1] for row in first["boxes"]] == [0, 1, 0]
    assert first["labels"] == [[*TEN, 1, 0, 0], [*FAR, 1, 1, 0]]
    assert [row[-1] for row in second["boxes"]] == [0] and second["labels"] == []


def test_labels_are_found_by_the_ids_of_images_and_the_names_of_classes():
    pseudo = pseudo_file(_NAMES, (0, TEN, 0.9, 0), (1, FAR, 0.9, 1), (2, TEN, 0.9, 1))
    labels = true_labels(["c.png", "a.png"], (0, TEN, 1), (1, TEN, 2), classes=("x", "bee", "ant"))
    for image, number in zip(labels.images, (3, 1), strict=True):
        image["id"] = number
    names = (*_CLASSES, "x")
    first, second, third = page_images(pseudo, [0, 1, 2], names, labels)
    assert first["labels"] == [[*TEN, 1, 0, 0]] and first["boxes"][0][-1] == 1
    assert third["labels"] == [[*TEN, 1, 1, 0]] and third["boxes"][0][-1] == 1
    # What there is in the second is not known.
    assert second["labels"] is None and second["boxes"][0][-1] is None


def test_a_box_in_a_crowd_is_neither_right_nor_wrong():
    pseudo = pseudo_file(_NAMES[:1], (0, (2, 2, 6, 6), 0.9, 0), (0, FAR, 0.9, 0))
    crowds = true_labels(_NAMES[:1], (0, TEN, 0)).labels
    labels = dataclasses.replace(true_labels(_NAMES[:1]), crowds=crowds)
    (entry,) = page_images(pseudo, [0], _CLASSES, labels)
    assert [row[-1] for row in entry["boxes"]] == [None, 0] and entry["labels"] == []


def test_labels_of_other_images_are_refused():
    pseudo, labels = pseudo_file(_NAMES), true_labels(["z.png"])
    with pytest.raises(ValueError, match="z.png"):
        page_images(pseudo, [0], _CLASSES, labels)
    labels.images[0]["id"] = 77
    with pytest.raises(ValueError, match="no image id in common"):
        page_images(pseudo, [0], _CLASSES, labels)


def _content(uri: str) -> tuple[str, bytes]:
    head, content = uri.split(",")
    return head, base64.b64decode(content)


def test_an_embedded_image_is_the_file_itself(tmp_path):
    write_images(tmp_path, "a.JPG")
    head, content = _content(image_source(tmp_path / "a.JPG", tmp_path, embed=True))
    assert head == "data:image/jpeg;base64" and content == (tmp_path / "a.JPG").read_bytes()


@pytest.mark.parametrize("embed", [False, True])
def test_formats_that_browsers_do_not_show_are_embedded_as_png(tmp_path, embed):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    head, content = _content(image_source(tmp_path / "a.tif", tmp_path, embed))
    assert head == "data:image/png;base64"
    assert (np.asarray(Image.open(io.BytesIO(content))) == pixels).all()


def test_what_is_no_image_has_no_source(tmp_path):
    (tmp_path / "a.tif").write_text("text")
    assert image_source(tmp_path / "a.tif", tmp_path, embed=False) is None

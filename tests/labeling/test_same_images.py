from __future__ import annotations

import pytest
from helpers.teacher_files import IMAGES, pseudo_file

from distill.labeling.same_images import align_images, match_images

_NAMES = ("A.json", "B.json")


def _changed(**fields) -> list[dict]:
    return [{**IMAGES[0], **fields}, *IMAGES[1:]]


def test_images_are_found_by_their_ids():
    first, second = pseudo_file("A", ["ant"]), pseudo_file("B", ["ant"], images=IMAGES[:0:-1])
    assert align_images(first, second, _NAMES).tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"file_name": "9.png"}, "The image 1 is 1.png in one file of labels and 9.png"),
        ({"width": 100}, "image 1 has 200x100 pixels in one and 100x100 in the other"),
    ],
)
def test_another_image_of_the_same_id_is_refused(fields, reason):
    second = pseudo_file("B", ["ant"], images=_changed(**fields))
    with pytest.raises(ValueError, match="A.json and B.json are not of the same images") as error:
        align_images(pseudo_file("A", ["ant"]), second, _NAMES)
    assert reason in str(error.value)


def test_images_of_the_same_names_in_another_folder_are_refused():
    first = pseudo_file("A", ["ant"], image_root="/data/train")
    second = pseudo_file("B", ["ant"], image_root="/data/test")
    with pytest.raises(ValueError, match="image 1 is /data/train/1.png in one and /data/test/1"):
        align_images(first, second, _NAMES)


@pytest.mark.parametrize(
    "info",
    [
        {"image_root": "/data/train"},
        {"image_root": "/copy/train", "dataset": "train"},
        {"image_root": ""},
    ],
)
def test_a_dataset_may_have_moved_and_a_folder_be_unknown(info):
    first = pseudo_file("A", ["ant"], image_root="/data/train", dataset="train")
    second = pseudo_file("B", ["ant"], **info)
    assert align_images(first, second, _NAMES).tolist() == [0, 1, 2]


def test_a_folder_may_be_part_of_the_names():
    images = [{**x, "file_name": f"train/{x['file_name']}"} for x in IMAGES]
    first = pseudo_file("A", ["ant"], image_root="/data/train")
    second = pseudo_file("B", ["ant"], images=images, image_root="/data")
    assert align_images(first, second, _NAMES).tolist() == [0, 1, 2]


def test_images_are_found_by_id_in_any_folder():
    inside = [{**x, "file_name": f"val/{x['file_name']}"} for x in IMAGES[:2]]
    first, second = pseudo_file("A", ["ant"]), pseudo_file("B", ["ant"], images=inside)
    assert match_images(first, second).tolist() == [0, 1, -1]
    assert match_images(second, first).tolist() == [0, 1]

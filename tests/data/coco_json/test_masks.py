from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as rle

from distill.data.coco_json.masks import is_sound_rle, usable_mask

_IMAGE = {"width": 64, "height": 48}


def test_whatever_pycocotools_writes_is_sound():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 400, 2)
        mask = np.zeros((height, width), np.uint8)
        mask[height // 3 :, width // 2 :] = rng.random() < 0.7
        mask |= rng.random((height, width)) < rng.choice([0, 0.01, 0.5])
        found = rle.encode(np.asfortranarray(mask))
        assert is_sound_rle(found)
        assert is_sound_rle({**found, "counts": found["counts"].decode()})
        assert not is_sound_rle({**found, "size": [height, width + 1]})


@pytest.mark.parametrize("counts", ["", "x", "zz~", "oooooooo", "0" * 9, "PPYo1o", "ä", "\n"])
def test_runs_that_do_not_add_up_are_none(counts):
    assert not is_sound_rle({"size": [48, 64], "counts": counts})


@pytest.mark.parametrize(
    "mask",
    [
        3,
        {"size": [48, 64]},
        {"size": [64, 48], "counts": "x"},
        {"size": [48, 64], "counts": [1, 2]},
        {"size": [48, 64], "counts": [-1, 48 * 64 + 1]},
        {"size": [48, 64], "counts": []},
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, 10**400]],
        [[1, 2, 3, 4, 5, 2.0**40]],
        [[1, 2, 3, 4, 5, None]],
        [[[1, 2], [3, 4], 5]],
        [None],
    ],
)
def test_what_is_no_mask_of_the_image_is_none(mask):
    assert usable_mask(mask, _IMAGE) is None


def test_the_polygons_that_are_some_are_kept():
    good = [1.0, 2, 3, 4, 5, 6]
    assert usable_mask([[1, 2], good, []], _IMAGE) == [good]

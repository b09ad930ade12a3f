"""Which images, digits and photographs the splits of the digits are made of."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data import digits
from distill.data.digits import SPLITS, Split, prepare_split
from distill.data.digits_render import load_sources

SMALL = Split(seed=7, num_images=4, digits=(0, 50), photos=("skimage:cat",))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_held_out_digits_and_photographs_never_occur_in_training() -> None:
    parts = [SPLITS[name] for name in ("digits_train", "digits_val", "digits_test")]
    loaded = [load_sources(part.digits, part.photos) for part in parts]
    assert sum(len(part.labels) for part in loaded) == 1797
    for (one, one_sources), (two, two_sources) in itertools.combinations(
        zip(parts, loaded, strict=True), 2
    ):
        assert not set(range(*one.digits)) & set(range(*two.digits))
        assert not set(one.photos) & set(two.photos)
        pixels = {photo.tobytes() for photo in one_sources.photos}
        assert not pixels & {photo.tobytes() for photo in two_sources.photos}


def test_the_unlabeled_split_is_other_images_of_what_training_is_made_of() -> None:
    train, unlabeled = SPLITS["digits_train"], SPLITS["digits_unlabeled"]
    assert (unlabeled.digits, unlabeled.photos) == (train.digits, train.photos)
    names = ("digits_train", "digits_val", "digits_test", "digits_unlabeled")
    names += ("digits_negative_train", "digits_negative_test")
    assert len({SPLITS[name].seed for name in names}) == len(names)


def test_the_first_quarter_of_the_larger_unlabeled_split_is_the_smaller_one() -> None:
    smaller, larger = SPLITS["digits_unlabeled"], SPLITS["digits_unlabeled_4x"]
    assert larger == dataclasses.replace(smaller, num_images=4 * smaller.num_images)


def test_half_of_the_classes_are_labeled_on_the_same_images(tmp_path: Path) -> None:
    low, high = (SPLITS[f"digits_train_{half}"] for half in ("0to4", "5to9"))
    assert {*low.classes, *high.classes} == set(digits.CLASSES)
    whole = prepare_split("small", tmp_path / "all", SMALL)
    truth = json.loads((whole / "small.json").read_text())
    found = []
    for split in (low, high):
        part = dataclasses.replace(SMALL, classes=split.classes)
        folder = prepare_split("small", tmp_path / split.classes[0], part)
        assert contents(folder / "images") == contents(whole / "images")
        content = json.loads((folder / "small.json").read_text())
        names = {x["id"]: x["name"] for x in content["categories"]}
        assert tuple(names.values()) == split.classes
        found += [
            (x["image_id"], names[x["category_id"]], *x["bbox"]) for x in content["annotations"]
        ]
    names = {x["id"]: x["name"] for x in truth["categories"]}
    expected = [(x["image_id"], names[x["category_id"]], *x["bbox"]) for x in truth["annotations"]]
    assert sorted(found) == sorted(expected)


def test_the_other_domain_is_of_other_tones_and_tested_on_other_photographs(
    tmp_path: Path,
) -> None:
    source = SPLITS["digits_train"]
    train, test = SPLITS["digits_negative_train"], SPLITS["digits_negative_test"]
    unlabeled = SPLITS["digits_negative_unlabeled"]
    assert unlabeled == dataclasses.replace(train, labeled=False)
    assert not {*source.photos, *train.photos} & set(test.photos)
    assert not set(range(*train.digits)) & set(range(*test.digits))
    plain = prepare_split("small", tmp_path / "plain", SMALL)
    other = prepare_split("small", tmp_path / "other", dataclasses.replace(SMALL, negative=True))
    assert (plain / "small.json").read_bytes() == (other / "small.json").read_bytes()
    name = "images/000000.png"
    bright, dark = (np.asarray(Image.open(x / name), dtype=float) for x in (plain, other))
    # Blurring keeps the mean, the negative mirrors it.
    assert bright.mean() + dark.mean() == pytest.approx(255, abs=2)
    edges = [np.abs(np.diff(x, axis=1)).mean() for x in (bright, dark)]
    assert edges[1] < edges[0]


def test_a_tenth_of_the_training_split_is_its_first_images(tmp_path: Path) -> None:
    whole, tenth = SPLITS["digits_train"], SPLITS["digits_train_10pct"]
    assert tenth == dataclasses.replace(whole, num_images=whole.num_images // 10)
    first = prepare_split("small", tmp_path / "first", dataclasses.replace(SMALL, num_images=2))
    images = contents(prepare_split("small", tmp_path / "all", SMALL) / "images")
    assert contents(first / "images").items() <= images.items()

"""Reads what a COCO file of boxes holds, and says what is wrong with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distill.data.pseudo.labels import HUMAN, PseudoLabels

__all__ = ["parse"]


def parse(
    content: dict[str, Any],
) -> tuple[
    dict[str, Any], list[dict], tuple[str, ...], tuple[str, ...], PseudoLabels, PseudoLabels
]:
    """What a COCO file of boxes holds, checked.

    Args:
        content: the file's content.

    Returns:
        Header, images, names of the classes, names of the teachers, boxes, and crowds: what
        `PseudoFile` is made of.

    Raises:
        KeyError, TypeError, AttributeError: if it is no such file.
        ValueError: what is wrong with it, in one sentence.
    """
    images = [_image(image) for image in content["images"]]
    number = _numbers([image["id"] for image in images], "images")
    categories = content["categories"]
    category = _numbers([x["id"] for x in categories], "categories")
    names = tuple(str(x["name"]) for x in categories)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is there twice in its categories: rename one.")
    found = content["annotations"]
    _numbers([x["id"] for x in found], "annotations")
    crowded = [x for x in found if x.get("iscrowd", 0)]
    found = [x for x in found if not x.get("iscrowd", 0)]
    teachers = tuple(sorted({x.get("teacher", HUMAN) for x in found}))
    place = {name: i for i, name in enumerate(teachers)}
    labels, crowds = (_labels(x, number, category, place) for x in (found, crowded))
    info = {"image_root": "", "dataset": None, **(content.get("info") or {})}
    return info, images, names, teachers, labels, crowds


def _labels(
    found: list[dict[str, Any]],
    number: dict[Any, int],
    category: dict[Any, int],
    teacher: dict[str, int],
) -> PseudoLabels:
    """Annotations as arrays, sorted by image."""
    rows = [
        (
            _place(number, x, "image_id"),
            *_box(x),
            _score(x),
            _place(category, x, "category_id"),
            teacher.get(x.get("teacher", HUMAN), 0),
        )
        for x in found
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    table = table[np.argsort(table[:, 0], kind="stable")]
    table[:, 3:5] += table[:, 1:3]
    image, classes, by = (table[:, column].astype(np.int64) for column in (0, 6, 7))
    return PseudoLabels(image, table[:, 1:5], table[:, 5], classes, by)


def _image(image: dict[str, Any]) -> dict[str, Any]:
    if not (0 < image["width"] < np.inf and 0 < image["height"] < np.inf):
        raise ValueError(
            f"image {image['id']!r} has the size {image['width']} x {image['height']}: both must "
            "be above 0."
        )
    return {key: image[key] for key in ("id", "file_name", "width", "height")}


def _numbers(ids: list[Any], what: str) -> dict[Any, int]:
    numbers = {x: i for i, x in enumerate(ids)}
    if len(numbers) < len(ids):
        twice = next(x for i, x in enumerate(ids) if numbers[x] != i)
        raise ValueError(f"the id {twice!r} is there twice in its {what}: give each its own.")
    return numbers


def _place(numbers: dict[Any, int], annotation: dict[str, Any], key: str) -> int:
    if annotation[key] not in numbers:
        raise ValueError(
            f"the {key} {annotation[key]!r} of box {annotation['id']!r} is not listed: remove the "
            "box or list it."
        )
    return numbers[annotation[key]]


def _box(annotation: dict[str, Any]) -> tuple[float, ...]:
    box = tuple(float(x) for x in annotation["bbox"])
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise ValueError(
            f"box {annotation['id']!r} has the bbox {annotation['bbox']}: it must be x, y, width "
            "and height, finite, the sizes not negative."
        )
    return box


def _score(annotation: dict[str, Any]) -> float:
    score = float(annotation.get("score", 1.0))
    if not 0 <= score <= 1:
        raise ValueError(
            f"box {annotation['id']!r} has the score {score}: it must be between 0 and 1."
        )
    return score

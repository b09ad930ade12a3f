"""What a COCO file says as arrays of boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from distill.data.coco_json import CocoFile
from distill.data.coco_json.file import Entry
from distill.data.coco_json.values import as_number
from distill.data.pseudo.labels import HUMAN, PseudoLabels

__all__ = ["parse"]


def parse(
    file: CocoFile,
) -> tuple[
    dict[str, Any], list[dict], tuple[str, ...], tuple[str, ...], PseudoLabels, PseudoLabels
]:
    """The boxes of a COCO file as arrays.

    Args:
        file: the file.

    Returns:
        Header, images, names of the classes, names of the teachers, boxes, and crowds: what
        `PseudoFile` is made of.

    Raises:
        ValueError: what is wrong with it, in half a sentence.
    """
    if not file.has_annotations:
        raise ValueError(
            "'annotations' is missing, and so it is no COCO file of boxes: add the list"
        )
    images = [{key: x[key] for key in ("id", "file_name", "width", "height")} for x in file.images]
    crowded = [x for x in file.annotations if x["iscrowd"]]
    found = [x for x in file.annotations if not x["iscrowd"]]
    teachers = tuple(sorted({_teacher(x) for x in found}))
    place = {name: i for i, name in enumerate(teachers)}
    labels, crowds = (_labels(x, file, place) for x in (found, crowded))
    info = {"image_root": "", "dataset": None, **file.info}
    for key in ("image_root", "dataset"):
        if not isinstance(info[key], str | None):
            raise ValueError(f"{key!r} in its info is {info[key]!r}: write text")
    info["image_root"] = info["image_root"] or ""
    return info, images, file.class_names, teachers, labels, crowds


def _labels(found: list[Entry], file: CocoFile, teacher: dict[str, int]) -> PseudoLabels:
    """Annotations as arrays, sorted by image."""
    image, category = file.image_places(), file.class_places()
    rows = [
        (
            image[x["image_id"]],
            *x["bbox"],
            _score(x),
            category[x["category_id"]],
            teacher.get(_teacher(x), 0),
        )
        for x in found
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    table = table[np.argsort(table[:, 0], kind="stable")]
    table[:, 3:5] += table[:, 1:3]
    numbers, classes, by = (table[:, column].astype(np.int64) for column in (0, 6, 7))
    return PseudoLabels(numbers, table[:, 1:5], table[:, 5], classes, by)


def _teacher(annotation: Entry) -> str:
    return str(annotation.get("teacher") or HUMAN)


def _score(annotation: Entry) -> float:
    value = annotation.get("score")
    if value is None:
        return 1.0
    try:
        score = as_number(value)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise ValueError(
            f"box {annotation['id']!r} has the score {value}: it must be between 0 and 1"
        )
    return score

"""What a COCO file says as arrays of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.data.coco_json import CocoFile
from distill.data.coco_json.file import Entry
from distill.data.coco_json.values import as_number
from distill.data.pseudo.header import checked_header
from distill.data.pseudo.labels import HUMAN, PseudoLabels

__all__ = ["parse"]


def parse(file: CocoFile) -> dict[str, Any]:
    """The boxes of a COCO file as arrays, and all else that it holds as it is.

    Args:
        file: the file.

    Returns:
        What a `PseudoFile` is made of, by name.

    Raises:
        ValueError: what is wrong with it, in half a sentence.
    """
    if not file.has_annotations:
        raise ValueError(
            "'annotations' is missing, and so it is no COCO file of boxes: add the list"
        )
    info = checked_header(file.info)
    teachers = tuple(sorted({_teacher(x) for x in file.annotations if not x["iscrowd"]}))
    labels, crowds = (_labels(file, crowd, teachers) for crowd in (0, 1))
    return {
        "info": info,
        "images": file.images,
        "class_names": file.class_names,
        "teachers": teachers,
        "labels": labels,
        "crowds": crowds,
        "categories": file.categories,
        "annotations": file.annotations,
        "rest": file.rest,
    }


def _labels(file: CocoFile, crowd: int, teachers: Sequence[str]) -> PseudoLabels:
    """The annotations that are crowds or not, as arrays, sorted by image."""
    image, category = file.image_places(), file.class_places()
    teacher = {name: i for i, name in enumerate(teachers)}
    rows = [
        (
            image[x["image_id"]],
            *x["bbox"],
            _score(x),
            category[x["category_id"]],
            teacher.get(_teacher(x), 0),
            place,
        )
        for place, x in enumerate(file.annotations)
        if x["iscrowd"] == crowd
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 9)
    table = table[np.argsort(table[:, 0], kind="stable")]
    table[:, 3:5] += table[:, 1:3]
    numbers, classes, by, place = (table[:, column].astype(np.int64) for column in (0, 6, 7, 8))
    return PseudoLabels(numbers, table[:, 1:5], table[:, 5], classes, by, place)


def _teacher(annotation: Entry) -> str:
    return str(annotation.get("teacher") or HUMAN)


def _score(annotation: Entry) -> float:
    if "score" not in annotation:
        return 1.0
    value = annotation["score"]
    try:
        score = as_number(value)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise ValueError(
            f"box {annotation['id']!r} has the score {value}: it must be between 0 and 1, and "
            "a true label has no score"
        )
    return score

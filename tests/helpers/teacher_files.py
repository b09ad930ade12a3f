"""Files of pseudo labels, written down as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN, PseudoLabels
from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.pool import TeacherInput

IMAGES = [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 100} for i in (1, 2, 3)]


def box(left: float, width: float = 10.0, height: float = 10.0) -> list[float]:
    """Corners of a box at the upper edge."""
    return [left, 0.0, left + width, height]


def labels(*rows: tuple, teacher: Sequence[int] | None = None) -> PseudoLabels:
    """Boxes by rows of image number, corners, score and class."""
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    image, boxes, scores, classes = (np.array(column) for column in columns)
    found_by = np.zeros(len(rows), int) if teacher is None else np.array(teacher, int)
    return PseudoLabels(
        image.astype(int),
        boxes.astype(float).reshape(-1, 4),
        scores.astype(float),
        classes.astype(int),
        found_by,
    )


def pseudo_file(
    teacher: str, classes: Sequence[str], *rows: tuple, images: list | None = None, **info: Any
) -> PseudoFile:
    """A teacher's file by rows of image number, corners, score and a class' name."""
    own = [(image, corners, score, classes.index(name)) for image, corners, score, name in rows]
    header = {
        "dataset": None,
        "image_root": "",
        "teachers": {} if teacher == HUMAN else {teacher: {"weights_sha256": teacher}},
        **info,
    }
    found = (teacher,) if rows else ()
    return PseudoFile(header, images or IMAGES, tuple(classes), found, labels(*own))


def teacher_input(
    teacher: str,
    classes: Sequence[str],
    *rows: tuple,
    limits: Thresholds | None = None,
    **options: Any,
) -> TeacherInput:
    """The same as something to merge, called TEACHER.json."""
    file = pseudo_file(teacher, classes, *rows, **options)
    return TeacherInput(f"{teacher}.json", file, limits)


def rows_of(file: PseudoFile) -> list[tuple]:
    """Image number, corners, score, class' name and teacher of each box, rounded."""
    x = file.labels
    columns = (x.image, x.boxes.round(4), x.scores.round(4), x.classes, x.teacher)
    return [
        (image, corners, score, file.class_names[category], file.teachers[by])
        for image, corners, score, category, by in zip(*(c.tolist() for c in columns), strict=True)
    ]

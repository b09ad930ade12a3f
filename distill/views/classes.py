"""How the teacher's classes map onto the student's, by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor, nn

from distill.utils.wording import some_of
from distill.views.contract import TwoStageDetector

__all__ = [
    "class_names",
    "map_classes",
    "num_classes",
    "student_classes",
    "teacher_class_names",
]


def class_names(cfg: CfgNode) -> tuple[str, ...]:
    """The class names that a config's detector learns; () if they are not known.

    They are those of the first training dataset. Where there is none, pseudo labels being all that
    is trained on: of DISTILL.PSEUDO.CLASSES_OF, of the first test dataset, or of the first file.
    """
    names = tuple(cfg.DATASETS.TRAIN)
    if not names and "DISTILL" in cfg:
        named = cfg.DISTILL.PSEUDO.CLASSES_OF
        names = (*([named] if named else []), *cfg.DATASETS.TEST, *cfg.DATASETS.PSEUDO)
    if not names:
        return ()
    metadata = MetadataCatalog.get(names[0])
    return tuple(metadata.get("thing_classes", None) or ())


def teacher_class_names(cfg: CfgNode, teacher_cfg: CfgNode, count: int) -> tuple[str, ...]:
    """The teacher's class names: DISTILL.TEACHER.CLASSES, or those of its training dataset.

    Args:
        cfg: the student's config.
        teacher_cfg: the teacher's.
        count: number of classes that the teacher predicts.

    Raises:
        ValueError: if DISTILL.TEACHER.CLASSES is given with another number of names.
    """
    given = tuple(cfg.DISTILL.TEACHER.CLASSES)
    if given and len(given) != count:
        raise ValueError(
            f"DISTILL.TEACHER.CLASSES has {len(given)} names, but the teacher predicts {count} "
            "classes; name each of them, in the teacher's order"
        )
    return given or class_names(teacher_cfg)


def num_classes(model: nn.Module) -> int:
    """The number of foreground classes a detector predicts."""
    return (model.roi_heads if isinstance(model, TwoStageDetector) else model).num_classes


def map_classes(
    student: Sequence[str], teacher: Sequence[str], student_count: int, teacher_count: int
) -> Tensor | None:
    """The teacher's column of every class of the student.

    Args:
        student: the student's class names; taken as unknown unless there are `student_count`.
        teacher: the teacher's, likewise.
        student_count: K_S, classes that the student predicts.
        teacher_count: K_T, classes that the teacher predicts.

    Returns:
        (K_S,) int64 indices, or None where the classes are the same in the same order.

    Raises:
        ValueError: if the student has a class that the teacher lacks, or if names are missing
            and the counts differ.
    """
    known = len(student) == student_count and len(teacher) == teacher_count
    if not known:
        if student_count != teacher_count:
            raise ValueError(
                f"the student predicts {student_count} classes and the teacher {teacher_count}, "
                "and their names are not known on both sides; register the datasets of both "
                "configs (DATASETS.TRAIN) with thing_classes, or set DISTILL.TEACHER.CLASSES"
            )
        logging.getLogger(__name__).warning(
            "The class names of student and teacher are not known on both sides; "
            "assuming the same %d classes in the same order.",
            student_count,
        )
        return None
    lacking = [name for name in student if name not in teacher]
    if lacking:
        raise ValueError(
            f"the teacher does not know {len(lacking)} of the student's {student_count} classes "
            f"({some_of(lacking, 5)}); take a teacher that "
            "knows them, rename them with DISTILL.TEACHER.CLASSES, or use feature terms only"
        )
    if tuple(student) == tuple(teacher):
        return None
    return torch.tensor([list(teacher).index(name) for name in student])


def student_classes(columns: Tensor | None, teacher_count: int) -> Tensor | None:
    """The student's class of every class of the teacher: the inverse of :func:`map_classes`.

    Args:
        columns: (K_S,) what `map_classes` returns.
        teacher_count: K_T, classes that the teacher predicts.

    Returns:
        (K_T,) int64 in host memory, -1 where the student lacks the class; None for equal classes.
    """
    if columns is None:
        return None
    classes = torch.full((teacher_count,), -1)
    classes[columns.cpu()] = torch.arange(len(columns))
    return classes

"""How the teacher's classes map onto the student's, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor, nn

from distill.utils.wording import some_of
from distill.views.contract import TwoStageDetector

__all__ = [
    "STUDENT_REMEDY",
    "TEACHER_REMEDY",
    "class_names",
    "dataset_class_names",
    "map_classes",
    "naming_dataset",
    "num_classes",
    "spelled_otherwise",
    "student_classes",
    "teacher_class_names",
    "trained_class_names",
]

# How unknown names become known.
STUDENT_REMEDY = "name the student's dataset in DATASETS.TRAIN, with thing_classes in its metadata"
TEACHER_REMEDY = (
    "name the classes of the teacher's DATASETS.TRAIN in DISTILL.TEACHER.CLASSES, in the teacher's "
    "order"
)


def naming_dataset(cfg: CfgNode) -> str:
    """The dataset whose classes a config's detector learns; "" if the config names none.

    It is the first training dataset. Where there is none, pseudo labels being all that is trained
    on: DISTILL.PSEUDO.CLASSES_OF, the first test dataset, or the first file.
    """
    names = tuple(cfg.DATASETS.TRAIN)
    if not names and "DISTILL" in cfg:
        named = cfg.DISTILL.PSEUDO.CLASSES_OF
        names = (*([named] if named else []), *cfg.DATASETS.TEST, *cfg.DATASETS.PSEUDO)
    return names[0] if names else ""


def class_names(cfg: CfgNode) -> tuple[str, ...]:
    """The class names that a config's detector learns, in its order; () if they are not known.

    Those of :func:`naming_dataset`.
    """
    name = naming_dataset(cfg)
    return dataset_class_names(name) if name else ()


def dataset_class_names(name: str) -> tuple[str, ...]:
    """The class names of a dataset by its metadata; () if they are not known."""
    return tuple(MetadataCatalog.get(name).get("thing_classes", None) or ())


def trained_class_names(cfg: CfgNode) -> tuple[str, ...]:
    """The class names of a config by what it trains on; () if they are not known.

    A dataset that is only tested on does not say what a detector has learned.
    """
    trained = cfg.DATASETS.TRAIN or cfg.DATASETS.PSEUDO or cfg.DISTILL.PSEUDO.CLASSES_OF
    return class_names(cfg) if trained else ()


def teacher_class_names(cfg: CfgNode, teacher_cfg: CfgNode, count: int) -> tuple[str, ...]:
    """The teacher's class names: DISTILL.TEACHER.CLASSES, or those of its training dataset.

    Args:
        cfg: the student's config.
        teacher_cfg: the teacher's.
        count: number of classes that the teacher predicts.

    Raises:
        ValueError: if the names are of another number, or DISTILL.TEACHER.CLASSES has one twice.
    """
    given = tuple(cfg.DISTILL.TEACHER.CLASSES)
    if given and len(given) != count:
        raise ValueError(
            f"DISTILL.TEACHER.CLASSES has {len(given)} names, but the teacher predicts {count} "
            "classes; name each of them, in the teacher's order"
        )
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise ValueError(f'DISTILL.TEACHER.CLASSES has "{twice}" twice: name each class once')
    names = given or trained_class_names(teacher_cfg)
    if names and len(names) != count:
        raise ValueError(
            f"the teacher predicts {count} classes, but the training dataset of its config has "
            f"{len(names)} ({some_of(names, 5)}): name the classes that its weights know in "
            "DISTILL.TEACHER.CLASSES, in the teacher's order"
        )
    return names


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
        ValueError: if names are missing, also where the numbers are equal, or if the student has a
            class that the teacher lacks.
    """
    unknown = {
        role: remedy
        for role, known, remedy in (
            ("student", len(student) == student_count, STUDENT_REMEDY),
            ("teacher", len(teacher) == teacher_count, TEACHER_REMEDY),
        )
        if not known
    }
    if unknown:
        raise ValueError(
            f"the student predicts {student_count} classes and the teacher {teacher_count}, and "
            f"the class names of the {' and of the '.join(unknown)} are not known, without which "
            f"classes cannot be compared: {', and '.join(unknown.values())}"
        )
    lacking = [name for name in student if name not in teacher]
    if lacking:
        raise ValueError(
            f"the teacher does not know {len(lacking)} of the student's {student_count} classes "
            f"({some_of(lacking, 5)}){spelled_otherwise(lacking, teacher)}; take a teacher that "
            "knows them, rename them with DISTILL.TEACHER.CLASSES, or use feature terms only"
        )
    if tuple(student) == tuple(teacher):
        return None
    return torch.tensor([list(teacher).index(name) for name in student])


def spelled_otherwise(names: Iterable[str], known: Iterable[str]) -> str:
    """What an error adds where a name is known but for capitals, spaces, dashes or underscores.

    Args:
        names: the names that are not known.
        known: those that are.

    Returns:
        ``; did you mean "traffic light" by "Traffic_Light"?``, or "".
    """
    by_letters = {_letters(name): name for name in known}
    for name in names:
        if (twin := by_letters.get(_letters(name))) is not None:
            return f'; did you mean "{twin}" by "{name}"?'
    return ""


def _letters(name: str) -> str:
    return "".join(sign for sign in name.casefold() if not sign.isspace() and sign not in "-_")


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

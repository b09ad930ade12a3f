"""The names of the classes of a teacher that labels images."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode

from distill.data.class_names import note_class_names
from distill.utils.wording import some_of
from distill.views.classes import naming_dataset, trained_class_names
from distill.views.detector_keys import classes_key, expected_classes

__all__ = ["check_teacher_count", "teacher_classes"]


def teacher_classes(cfg: CfgNode, given: Sequence[str] | None, remedy: str) -> tuple[str, ...]:
    """The names of a teacher's classes: those given, or those of its training dataset.

    Args:
        cfg: the teacher's config.
        given: what the user says, if anything.
        remedy: what to do where they are unknown, for the message.

    Raises:
        ValueError: one sentence, if they are unknown.
    """
    note_class_names((naming_dataset(cfg),))
    names = tuple(given or trained_class_names(cfg))
    if not names:
        raise ValueError(
            f"The names of the teacher's classes are unknown, as {_training_dataset(cfg)}: "
            f"{remedy}, in the teacher's order."
        )
    return names


def check_teacher_count(cfg: CfgNode, names: Sequence[str]) -> None:
    """Refuses names of another number than the classes that a teacher's config says.

    Args:
        cfg: the teacher's config.
        names: the names that were given, or found.

    Raises:
        ValueError: one sentence, if they are not as many.
    """
    if expected_classes(cfg) not in (None, len(names)):
        raise ValueError(
            f"The teacher predicts {expected_classes(cfg)} classes, but {len(names)} names are "
            f"known ({some_of(names, 5)}) and {classes_key(cfg)} of its config is another number: "
            "give the names of all with --classes, in the teacher's order."
        )


def _training_dataset(cfg: CfgNode) -> str:
    if not cfg.DATASETS.TRAIN:
        return "its config has no DATASETS.TRAIN"
    return f"the dataset {cfg.DATASETS.TRAIN[0]} of its config is not registered with names"

"""Classes are known by name, or refused, before anything is built."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode

from distill.build import build_teacher_config
from distill.data.class_names import check_class_number, note_class_names
from distill.methods.base import build_methods
from distill.utils.wording import some_of
from distill.views.classes import (
    STUDENT_REMEDY,
    class_names,
    dataset_class_names,
    map_classes,
    naming_dataset,
    spelled_otherwise,
    teacher_class_names,
)
from distill.views.detector_keys import classes_key, detector_keys, expected_classes

__all__ = ["check_classes", "check_teacher_classes"]

_logger = logging.getLogger(__name__)


def check_classes(cfg: CfgNode, *, training: bool = True) -> None:
    """Compares the student's classes with those of its datasets, by name.

    Args:
        cfg: the student's config; its datasets are registered.
        training: the datasets that are trained on are there too.

    Raises:
        ValueError: one sentence that names key and dataset.
    """
    datasets = cfg.DATASETS
    note_class_names(datasets.TEST)
    if training:
        pseudo = (cfg.DISTILL.PSEUDO.CLASSES_OF, *datasets.PSEUDO)
        note_class_names((*datasets.TRAIN, *pseudo))
        _check_training_datasets(cfg)
    else:
        note_class_names((naming_dataset(cfg),))
    if (keys := detector_keys(cfg)) and keys.num_classes is None:
        # It tells no classes apart.
        return
    check_class_number(cfg, expected_classes(cfg), trains=training)
    for name in datasets.TEST:
        _check_test_dataset(cfg, name)
    if training:
        for name in datasets.PSEUDO:
            _check_pseudo_dataset(cfg, name)


def check_teacher_classes(cfg: CfgNode, *, compares: bool = False) -> None:
    """Compares the teacher's classes with the student's, by name, where anything compares them.

    Args:
        cfg: the student's config.
        compares: compare them even if neither a method nor DATASETS.UNLABELED does.

    Raises:
        ValueError, FileNotFoundError: one sentence, if names are not known on both sides or do not
            fit, or if there is no config of a teacher.
    """
    methods = build_methods(cfg.DISTILL.METHODS, cfg, ())
    if not (compares or cfg.DATASETS.UNLABELED or any(x.compares_classes for x in methods)):
        return
    teacher = build_teacher_config(cfg)
    number, names = expected_classes(teacher), class_names(cfg)
    own = len(names) or expected_classes(cfg)
    # Of a detector without registered keys the number is known, and compared, when it is built.
    if number is not None and own is not None:
        map_classes(names, teacher_class_names(cfg, teacher, number), own, number)


def _check_training_datasets(cfg: CfgNode) -> None:
    """Refuses datasets of different classes: a label's number would mean two things."""
    known = {name: names for name in cfg.DATASETS.TRAIN if (names := dataset_class_names(name))}
    for name, names in known.items():
        first, expected = next(iter(known.items()))
        if names != expected:
            raise ValueError(
                f"DATASETS.TRAIN has {first} with the classes {some_of(expected, 5)} and {name} "
                f"with {some_of(names, 5)}: give all of them the same categories in the same "
                "order, or train on one"
            )


def _check_test_dataset(cfg: CfgNode, name: str) -> None:
    names, own = dataset_class_names(name), class_names(cfg)
    if names and not own:
        _check_unnamed(cfg, name, len(names))
    if not names or not own:
        return
    if lacking := [x for x in names if x not in own]:
        raise ValueError(
            f"DATASETS.TEST has {name} with classes that the student does not learn from "
            f"{naming_dataset(cfg)} ({some_of(lacking, 5)}){spelled_otherwise(lacking, own)}: "
            "rename them in one of the two, or test on another dataset"
        )
    if absent := [x for x in own if x not in names]:
        _logger.warning(
            "%s lacks %d of the student's %d classes (%s): detections of these do not count.",
            *(name, len(absent), len(own), some_of(absent, 5)),
        )


def _check_unnamed(cfg: CfgNode, name: str, classes: int) -> None:
    """Compares numbers at least, where the student's names are not known."""
    number = expected_classes(cfg)
    if number not in (None, classes):
        raise ValueError(
            f"The student predicts {number} classes ({classes_key(cfg)}), whose names are not "
            f"known, and DATASETS.TEST has {name} with {classes}: {STUDENT_REMEDY}"
        )
    _logger.warning(
        "The names of the student's classes are not known: they are taken to be those of %s, in "
        "their order.",
        name,
    )


def _check_pseudo_dataset(cfg: CfgNode, name: str) -> None:
    names, own = dataset_class_names(name), class_names(cfg)
    if not own:
        raise ValueError(
            f"DATASETS.PSEUDO has {name}, whose classes are matched by name, but the student's are "
            f"not known: {STUDENT_REMEDY}, or name a dataset in DISTILL.PSEUDO.CLASSES_OF"
        )
    unknown = [x for x in names if x not in own]
    if twin := spelled_otherwise(unknown, own):
        raise ValueError(
            f"DATASETS.PSEUDO has {name} with classes that the student lacks "
            f"({some_of(unknown, 5)}){twin}: rename them by pseudo_label.py merge --aliases"
        )
    if len(unknown) == len(names):
        raise ValueError(
            f"{name} has none of the student's classes ({some_of(own, 5)}) but "
            f"{some_of(names, 5)}: rename them by pseudo_label.py merge --aliases"
        )

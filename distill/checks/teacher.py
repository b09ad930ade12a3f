"""The teacher that a config refers to: its files, its names and its levels, before it is built."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode

from distill.build import build_teacher_config, refuse_missing_weights
from distill.checks.architecture import backbone_levels, check_detector
from distill.config import student_config
from distill.methods.base import build_methods
from distill.views.levels import match_levels
from distill.views.teacher_weights import CONFIG_KEY

__all__ = ["check_teacher", "check_weights_are_named"]


def check_teacher(cfg: CfgNode, *, evaluated: bool = False) -> None:
    """Checks the names of methods, and a teacher's if anything needs it; says if nothing does.

    Args:
        cfg: the config of a training.
        evaluated: the teacher is evaluated too.

    Raises:
        ValueError, FileNotFoundError: one sentence, if a method is unknown, the teacher's config is
            not there or has unknown names, or no level is common with the student.
    """
    build_methods(cfg.DISTILL.METHODS, cfg, ())
    node = cfg.DISTILL.TEACHER
    if not _is_needed(cfg, evaluated):
        if node.CONFIG_FILE or node.WEIGHTS:
            logging.getLogger(__name__).warning(
                "DISTILL.TEACHER names a teacher, but neither DISTILL.METHODS nor "
                "DATASETS.UNLABELED uses it: the student trains without it."
            )
        return
    teacher = build_teacher_config(cfg)
    check_detector(teacher, f"{CONFIG_KEY} {node.CONFIG_FILE}: ")
    if cfg.DISTILL.METHODS:
        student = backbone_levels(student_config(cfg))
        match_levels(student, backbone_levels(teacher), cfg.DISTILL.LEVELS)


def check_weights_are_named(cfg: CfgNode, *, evaluated: bool = False) -> None:
    """Refuses a teacher that is needed and has no weights.

    Args:
        cfg: the config of a training.
        evaluated: the teacher is evaluated too.

    Raises:
        ValueError: one sentence that names the key.
    """
    if _is_needed(cfg, evaluated):
        refuse_missing_weights(cfg)


def _is_needed(cfg: CfgNode, evaluated: bool) -> bool:
    return bool(cfg.DISTILL.METHODS or cfg.DATASETS.UNLABELED or evaluated)

"""The configuration keys of this library; each room defines its own, see `utils.config_keys`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from distill.utils.config_files import given_values
from distill.utils.config_keys import add_all_keys, check_limits
from distill.utils.detectron2_keys import limit_detectron2_keys
from distill.utils.key_relations import conflicts

__all__ = [
    "add_distill_config",
    "check_detector_keys",
    "check_keys",
    "check_retired_keys",
    "student_config",
    "take_own_architecture",
]

_WRAPPER = "Distiller"

# Keys that older run directories and overlays may hold: the one value that still has a meaning,
# and what to do about any other.
_RETIRED = {
    "DISTILL.UNLABELED.BOXES": (
        "cached",
        "the teacher labels DATASETS.UNLABELED once, before training, and no longer batch by "
        "batch; leave the key out",
    ),
    "DISTILL.PSEUDO.SCORE_WEIGHTS": (
        False,
        "boxes are no longer weighted by their scores; leave the key out and choose boxes with "
        "DISTILL.PSEUDO.SCORE_THRESHOLD and IGNORE_THRESHOLD",
    ),
}
# Nodes of which nothing is left here: the pre-training of backbones went to IDa-Det's project.
_IGNORED = ("PRETRAIN",)


def add_distill_config(cfg: CfgNode) -> None:
    """Adds the keys of this library to a Detectron2 config, in place.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    add_all_keys(cfg)
    limit_detectron2_keys(cfg)
    for key, (value, _) in _RETIRED.items():
        *nodes, name = key.split(".")
        node = cfg
        for part in nodes:
            node = node[part]
        node[name] = value
    for name in _IGNORED:
        cfg.register_deprecated_key(name)


def check_keys(cfg: CfgNode) -> None:
    """Refuses a value that its key cannot have, and values that cannot be together.

    Nothing is read or built for it.

    Args:
        cfg: the config of a training or an evaluation, with this library's keys.

    Raises:
        ValueError: one sentence that names the key and says what it may be.
    """
    check_retired_keys(cfg)
    check_limits(cfg)
    check_detector_keys(cfg)
    solver = cfg.SOLVER
    if solver.MAX_ITER in solver.STEPS and solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        raise ValueError(
            f"SOLVER.STEPS {tuple(solver.STEPS)} names SOLVER.MAX_ITER, where training ends: leave "
            "that step out"
        )


def check_detector_keys(cfg: CfgNode, source: str = "") -> None:
    """The part of :func:`check_keys` that a teacher's config must pass too.

    Args:
        cfg: the config of a detector, with this library's keys.
        source: where it comes from, to begin an error with.

    Raises:
        ValueError: one sentence that names the key.
    """
    check_limits(cfg, groups=("MODEL", "INPUT", "TEST"), source=source)
    for sentence in conflicts(cfg):
        raise ValueError(f"{source}{sentence}")


def check_retired_keys(cfg: CfgNode) -> None:
    """Refuses a config that asks for what this library no longer does.

    Args:
        cfg: a config with this library's keys.

    Raises:
        ValueError: one sentence that names the key and what to do.
    """
    for key, (value, remedy) in _RETIRED.items():
        given = cfg
        for part in key.split("."):
            given = given[part]
        if given != value:
            raise ValueError(f"{key} is {given}, which is gone: {remedy}")


def take_own_architecture(
    cfg: CfgNode, reference: str, pairs: Sequence[Any] = (), *, key: str
) -> None:
    """Lets a Distiller's student be what the config was of before an overlay made it a Distiller.

    That is the last other MODEL.META_ARCHITECTURE that the files give; a given
    DISTILL.STUDENT.META_ARCHITECTURE stays, with a warning if it is another one.

    Args:
        cfg: the config that was made of the file and the overrides; changed in place.
        reference: the file; "" for none.
        pairs: KEY VALUE overrides.
        key: the option or config key that the reference comes from, for messages.
    """
    if cfg.MODEL.META_ARCHITECTURE != _WRAPPER:
        return
    found = given_values(reference, pairs, "MODEL.META_ARCHITECTURE", key=key)
    own = [name for name in found if name != _WRAPPER]
    if not own or own[-1] == cfg.DISTILL.STUDENT.META_ARCHITECTURE:
        return
    if not given_values(reference, pairs, "DISTILL.STUDENT.META_ARCHITECTURE", key=key):
        cfg.DISTILL.STUDENT.META_ARCHITECTURE = own[-1]
        return
    logging.getLogger(__name__).warning(
        "DISTILL.STUDENT.META_ARCHITECTURE is %s, but the config that %s is based on is of a %s.",
        *(cfg.DISTILL.STUDENT.META_ARCHITECTURE, reference, own[-1]),
    )


def student_config(cfg: CfgNode) -> CfgNode:
    """A copy of a config whose meta-architecture is the student's own.

    Args:
        cfg: any config; one whose meta-architecture is not Distiller is only copied.
    """
    own = cfg.clone()
    if own.MODEL.META_ARCHITECTURE == _WRAPPER:
        own.defrost()
        own.MODEL.META_ARCHITECTURE = own.DISTILL.STUDENT.META_ARCHITECTURE
    return own

"""The one place that turns keys into a student, a teacher and methods, and checks the pair."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from distill.config import (
    add_distill_config,
    check_detector_keys,
    check_keys,
    student_config,
    take_own_architecture,
)
from distill.data.class_names import check_student_classes, note_class_names
from distill.methods.base import Method, build_methods
from distill.utils.config_files import merge_file, merge_overrides
from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import anything, list_of, one_of, text, whole
from distill.utils.model_zoo import is_in_zoo, zoo_config
from distill.utils.trainer_keys import check_trainer_keys
from distill.views.classes import (
    class_names,
    map_classes,
    naming_dataset,
    num_classes,
    teacher_class_names,
)
from distill.views.contract import TeachingDetector, offered_signals
from distill.views.levels import match_levels
from distill.views.teacher import PRECISIONS, FrozenTeacher
from distill.views.teacher_weights import CONFIG_KEY, load_covering_weights

__all__ = [
    "build_pair",
    "build_teacher",
    "build_teacher_config",
    "check_pair",
    "said_of_keys",
    "refuse_missing_weights",
    "read_config",
]

_OPTS_KEY = "DISTILL.TEACHER.OPTS"
_ROLE_KEYS = {"student": "DISTILL.STUDENT.META_ARCHITECTURE", "teacher": CONFIG_KEY}


@defines_keys
def _add_pair_keys(cfg: CfgNode) -> None:
    distill = cfg.DISTILL
    # Names of the distillation methods; () trains the student as plain Detectron2 does.
    distill.METHODS = ()
    # Iterations between two writes of the methods' diagnostics to the event storage.
    distill.LOG_PERIOD = 20
    # Names of the student's feature levels to distill; () takes all that the teacher shares.
    distill.LEVELS = ()

    distill.STUDENT = CfgNode()
    # The student's own meta-architecture, which Distiller wraps; where files leave it out, that of
    # their base.
    distill.STUDENT.META_ARCHITECTURE = "GeneralizedRCNN"

    distill.TEACHER = CfgNode()
    # The teacher's config: a path, or model_zoo://<path in Detectron2's model zoo>.
    distill.TEACHER.CONFIG_FILE = ""
    # Its weights: a path, a URL, or model_zoo://<config path>.
    distill.TEACHER.WEIGHTS = ""
    # KEY VALUE overrides of the teacher's config.
    distill.TEACHER.OPTS = []
    # Precision of the teacher's forward: float32, float16, bfloat16, or auto: the student's.
    distill.TEACHER.PRECISION = "auto"
    # Accept weights that do not cover every parameter of the teacher.
    distill.TEACHER.ALLOW_PARTIAL = False
    # Accept a teacher without weights, left at its random initialization (a control).
    distill.TEACHER.ALLOW_RANDOM = False
    # The teacher's class names in its own order; () takes them from its dataset's metadata.
    distill.TEACHER.CLASSES = ()

    names = list_of(text(), distinct=True)
    limit(distill, METHODS=names, LOG_PERIOD=whole(at_least=1), LEVELS=names)
    limit(
        distill.TEACHER,
        OPTS=list_of(anything()),
        PRECISION=one_of(*PRECISIONS),
        CLASSES=list_of(text()),
    )


@contextlib.contextmanager
def said_of_keys(source: str = "") -> Iterator[None]:
    """While active, what the constructors of a detector fail at is said of its keys.

    Args:
        source: where the config comes from, to begin an error with.

    Raises:
        ValueError: one sentence, in place of a registry's or an assertion's error.
    """
    try:
        yield
    except (KeyError, AssertionError, TypeError, IndexError) as error:
        reason = str(error.args[0]) if error.args else "a check of Detectron2 failed"
        reason = " ".join(reason.split()).rstrip(".")
        raise ValueError(f"{source}MODEL makes no detector ({reason}): correct its keys") from error


def build_pair(cfg: CfgNode) -> tuple[nn.Module, FrozenTeacher | None, list[Method]]:
    """Builds student, teacher and methods, and checks that they fit.

    Args:
        cfg: the student's config.

    Returns:
        The student, the teacher (None without methods), and the methods.

    Raises:
        ValueError, FileNotFoundError: one sentence, if a key, the teacher or the pair is amiss.
    """
    check_keys(cfg)
    check_trainer_keys(cfg)
    own = student_config(cfg)
    with said_of_keys():
        student = META_ARCH_REGISTRY.get(own.MODEL.META_ARCHITECTURE)(own)
    check_student_classes(cfg, student)
    if not cfg.DISTILL.METHODS:
        return student, None, []
    teacher = build_teacher(cfg)
    levels = match_levels(
        student.backbone.output_shape(),
        teacher.model.backbone.output_shape(),
        cfg.DISTILL.LEVELS,
    )
    methods = build_methods(cfg.DISTILL.METHODS, cfg, levels)
    check_pair(student, teacher.model, methods)
    if any(method.compares_classes for method in methods):
        count = num_classes(teacher.model)
        teacher.class_map = map_classes(
            class_names(cfg),
            teacher_class_names(cfg, teacher.cfg, count),
            num_classes(student),
            count,
        )
    return student, teacher, methods


def check_pair(student: nn.Module, teacher: nn.Module, methods: Sequence[Method]) -> None:
    """Refuses a pair that does not offer what methods require, or that cannot be compared.

    Args:
        student: the student.
        teacher: the teacher.
        methods: the methods.

    Raises:
        ValueError: one sentence that names the config keys to change.
    """
    for method in methods:
        for role, model, required in (
            ("student", student, method.requires),
            ("teacher", teacher, method.teacher_requires),
        ):
            lacking = required - offered_signals(model)
            if lacking:
                raise ValueError(
                    f"{method.name} needs the signal {' and '.join(sorted(lacking))} of the "
                    f"{role}, which {type(model).__name__} does not provide; {method.remedy}, or "
                    f"take another {role} ({_ROLE_KEYS[role]})"
                )
        method.check_pair(student, teacher)
    if not isinstance(teacher, TeachingDetector):
        raise ValueError(
            f"{type(teacher).__name__} cannot be a teacher, as it does not preprocess images apart "
            f"from its forward (preprocess_image); take another teacher ({CONFIG_KEY})"
        )


def build_teacher(cfg: CfgNode) -> FrozenTeacher:
    """Builds and verifies the teacher that a student's config refers to.

    Args:
        cfg: the student's config, with DISTILL.TEACHER.

    Raises:
        ValueError, FileNotFoundError: one sentence, if the reference is missing or wrong or the
            weights do not cover the model.
    """
    teacher_cfg = build_teacher_config(cfg)
    _report_pixels(cfg, teacher_cfg)
    with said_of_keys(f"{CONFIG_KEY}: "):
        model = META_ARCH_REGISTRY.get(teacher_cfg.MODEL.META_ARCHITECTURE)(teacher_cfg)
    _load_weights(model, cfg)
    model.to(torch.device(cfg.MODEL.DEVICE))
    return FrozenTeacher(
        model,
        cfg=teacher_cfg,
        precision=cfg.DISTILL.TEACHER.PRECISION,
        swap_channels=cfg.INPUT.FORMAT != teacher_cfg.INPUT.FORMAT,
    )


def build_teacher_config(cfg: CfgNode) -> CfgNode:
    """The teacher's own config, on the student's device.

    Args:
        cfg: the student's config, with DISTILL.TEACHER.

    Raises:
        ValueError, FileNotFoundError: one sentence, if the reference is missing or wrong.
    """
    reference = cfg.DISTILL.TEACHER.CONFIG_FILE
    if not reference:
        raise ValueError(
            "DISTILL.METHODS and DATASETS.UNLABELED need a teacher, but "
            "DISTILL.TEACHER.CONFIG_FILE is empty; set it to the teacher's YAML file or to "
            "model_zoo://<config path>"
        )
    teacher = read_config(reference, cfg.DISTILL.TEACHER.OPTS)
    teacher.MODEL.DEVICE = cfg.MODEL.DEVICE
    note_class_names((naming_dataset(teacher),))
    return teacher


def read_config(reference: str, opts: Sequence[Any] = (), *, key: str = CONFIG_KEY) -> CfgNode:
    """A detector's config, without any distillation.

    Args:
        reference: a path, or model_zoo://<config path>.
        opts: KEY VALUE overrides.
        key: the config key or option that the reference comes from, for messages.

    Raises:
        ValueError, FileNotFoundError: one sentence, if there is no such file or it is no config.
    """
    cfg = get_cfg()
    add_distill_config(cfg)
    zoo = is_in_zoo(reference)
    merge_file(cfg, zoo_config(reference, key) if zoo else reference, key=key)
    overrides = _OPTS_KEY if key == CONFIG_KEY else "KEY VALUE overrides"
    merge_overrides(cfg, opts, key=overrides)
    take_own_architecture(cfg, zoo_config(reference, key) if zoo else reference, opts, key=key)
    check_detector_keys(cfg, f"{key} {reference}: ")
    return student_config(cfg)


def refuse_missing_weights(cfg: CfgNode) -> None:
    """Refuses a teacher without weights, unless DISTILL.TEACHER.ALLOW_RANDOM asks for one.

    Args:
        cfg: the student's config.

    Raises:
        ValueError: one sentence that names the key.
    """
    if not cfg.DISTILL.TEACHER.WEIGHTS and not cfg.DISTILL.TEACHER.ALLOW_RANDOM:
        raise ValueError(
            "DISTILL.TEACHER.WEIGHTS is empty, which would leave the teacher at random weights; "
            "set it to the teacher's checkpoint, or to model_zoo://<config path>"
        )


def _load_weights(model: nn.Module, cfg: CfgNode) -> None:
    """Loads DISTILL.TEACHER.WEIGHTS into the teacher and refuses what does not cover it.

    Args:
        model: the teacher, at its random initialization.
        cfg: the student's config.

    Raises:
        ValueError: one sentence, if no weights are named or they do not cover the model.
        FileNotFoundError: if the file does not exist or cannot be fetched.
    """
    node = cfg.DISTILL.TEACHER
    refuse_missing_weights(cfg)
    if not node.WEIGHTS:
        logging.getLogger(__name__).warning("The teacher keeps its RANDOM initialization.")
        return
    load_covering_weights(model, node.WEIGHTS, allow_partial=node.ALLOW_PARTIAL)


def _report_pixels(student: CfgNode, teacher: CfgNode) -> None:
    """Logs a difference in pixel statistics, which is allowed: each model uses its own."""
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        own, other = list(student.MODEL[key]), list(teacher.MODEL[key])
        if own != other:
            logging.getLogger(__name__).info(
                "MODEL.%s is %s for the student and %s for the teacher; each keeps its own.",
                key,
                own,
                other,
            )

"""Where the teacher comes from: its config and weights by reference, verified before training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.file_io import PathManager
from torch import nn

from distill.utils.checkpoint import SafeCheckpointer
from distill.config import add_distill_config, student_config

__all__ = [
    "build_teacher_config",
    "load_covering_weights",
    "load_teacher_weights",
    "local_weights",
    "read_config",
]

_ZOO = "model_zoo://"
_CONFIG_KEY = "DISTILL.TEACHER.CONFIG_FILE"
_WEIGHTS_KEY = "DISTILL.TEACHER.WEIGHTS"


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
    _report_pixels(cfg, teacher)
    return teacher


def read_config(reference: str, opts: Sequence[Any] = (), *, key: str = _CONFIG_KEY) -> CfgNode:
    """A detector's config, without any distillation.

    Args:
        reference: a path, or model_zoo://<config path>.
        opts: KEY VALUE overrides.
        key: the config key or option that the reference comes from, for messages.

    Raises:
        ValueError, FileNotFoundError: one sentence, if there is no such file or it is no config.
    """
    if reference.startswith(_ZOO):
        path = _look_up(key, reference, model_zoo.get_config_file)
    else:
        path = PathManager.get_local_path(reference)
        if not PathManager.isfile(path):
            raise FileNotFoundError(
                f"{key}: there is no file {reference} (paths are relative to the working directory)"
            )
    cfg = get_cfg()
    add_distill_config(cfg)
    try:
        # Some of the zoo's own configs compute values in YAML; nobody else's may run code.
        cfg.merge_from_file(path, allow_unsafe=reference.startswith(_ZOO))
        cfg.merge_from_list(list(opts))
    except yaml.YAMLError as error:
        raise ValueError(
            f"{key}: {reference} is not plain YAML ({' '.join(str(error).split())})"
        ) from error
    except (KeyError, ValueError, AssertionError, AttributeError, TypeError) as error:
        reason = str(error.args[0] if error.args else error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{key}: {reference} and its KEY VALUE overrides do not make a config ({reason})"
        ) from error
    return student_config(cfg)


def load_teacher_weights(model: nn.Module, cfg: CfgNode) -> None:
    """Loads DISTILL.TEACHER.WEIGHTS into the teacher and refuses what does not cover it.

    Args:
        model: the teacher, at its random initialization.
        cfg: the student's config.

    Raises:
        ValueError: one sentence, if no weights are named or they do not cover the model.
        FileNotFoundError: if the file does not exist or cannot be fetched.
    """
    node = cfg.DISTILL.TEACHER
    if not node.WEIGHTS:
        if node.ALLOW_RANDOM:
            logging.getLogger(__name__).warning("The teacher keeps its RANDOM initialization.")
            return
        raise ValueError(
            "DISTILL.TEACHER.WEIGHTS is empty, which would leave the teacher at random weights; "
            "set it to the teacher's checkpoint, or to model_zoo://<config path>"
        )
    load_covering_weights(model, node.WEIGHTS, allow_partial=node.ALLOW_PARTIAL)


def load_covering_weights(
    model: nn.Module,
    reference: str,
    *,
    allow_partial: bool | None = None,
    key: str = _WEIGHTS_KEY,
    config_key: str = _CONFIG_KEY,
) -> None:
    """Loads weights into a teacher and refuses what does not cover it.

    Args:
        model: the teacher, at its random initialization.
        reference: a path, a URL, or model_zoo://<config path>.
        allow_partial: DISTILL.TEACHER.ALLOW_PARTIAL, with which only part of the teacher may be
            covered; None where there is no such key.
        key: the config key or option that the weights come from, for messages.
        config_key: that of the teacher's config.

    Raises:
        ValueError: one sentence, if they do not cover the model.
        FileNotFoundError: if the file does not exist or cannot be fetched.
    """
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(local_weights(reference, key))
    lost = checkpointer.incompatible.missing_keys
    lost = lost + [name for name, _, _ in checkpointer.incompatible.incorrect_shapes]
    # The counters exist in some releases only and do not change what the network computes.
    keys = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    lost = sorted(set(lost) & set(keys))
    coverage = 100.0 * (len(keys) - len(lost)) / len(keys)
    message = f"{reference} covers {coverage:.1f} % of the teacher's {len(keys)} keys"
    if not lost:
        logging.getLogger(__name__).info("Teacher: %s.", message)
    elif allow_partial and coverage > 0:
        logging.getLogger(__name__).warning("Teacher: %s; lacking: %s.", message, ", ".join(lost))
    else:
        way_out = "" if allow_partial is None else ", or set DISTILL.TEACHER.ALLOW_PARTIAL True"
        raise ValueError(
            f"{key}: {message} (lacking or of another shape: {', '.join(lost[:3])}"
            f"{', ...' if len(lost) > 3 else ''}); check that weights and {config_key} belong "
            f"together{way_out}"
        )


def local_weights(reference: str, key: str = _WEIGHTS_KEY) -> str:
    """A local file with the weights of a teacher.

    Args:
        reference: a path, a URL, or model_zoo://<config path>.
        key: the config key or option that it comes from, for messages.

    Raises:
        FileNotFoundError: if there is no such file or it cannot be fetched.
    """
    url = reference
    if reference.startswith(_ZOO):
        url = _look_up(key, reference, model_zoo.get_checkpoint_url)
    try:
        path = PathManager.get_local_path(url)
    except OSError as error:
        raise FileNotFoundError(
            f"{key}: {url} could not be downloaded ({error}); download it elsewhere and set "
            f"{key} to the file"
        ) from error
    if not PathManager.isfile(path):
        raise FileNotFoundError(
            f"{key}: there is no file {reference} (paths are relative to the working directory); "
            f"train the teacher first, or set {key}"
        )
    return path


def _look_up(key: str, reference: str, find: Callable[[str], str]) -> str:
    """What Detectron2's model zoo has for a model_zoo:// reference."""
    name = reference[len(_ZOO) :]
    try:
        return find(name)
    except RuntimeError as error:
        raise FileNotFoundError(
            f'{key}: the model zoo of Detectron2 has no "{name}"; look the name up in its list'
        ) from error


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

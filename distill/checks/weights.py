"""Files of weights are there and are what they are taken for, before anything is loaded."""

from __future__ import annotations

import os

from detectron2.config import CfgNode

from distill.utils.model_zoo import is_in_zoo, zoo_checkpoint
from distill.views.teacher_weights import WEIGHTS_KEY, local_weights

__all__ = ["check_weights"]

_OWN_KEY = "MODEL.WEIGHTS"


def check_weights(cfg: CfgNode, *, own: bool = True, teacher: bool = True) -> None:
    """Looks at the files that MODEL.WEIGHTS and DISTILL.TEACHER.WEIGHTS name; reads none whole.

    What has to be downloaded is looked at when it is loaded.

    Args:
        cfg: the config.
        own: MODEL.WEIGHTS will be loaded.
        teacher: the teacher's will be loaded, if there are any.

    Raises:
        ValueError, FileNotFoundError: one sentence that names the key, if a file is missing, is
            damaged in what is seen at once, or is no file of weights.
    """
    if own and cfg.MODEL.WEIGHTS:
        _look(_OWN_KEY, cfg.MODEL.WEIGHTS)
    labels = cfg.DISTILL.METHODS or cfg.DATASETS.UNLABELED
    if teacher and labels and cfg.DISTILL.TEACHER.WEIGHTS:
        _look(WEIGHTS_KEY, cfg.DISTILL.TEACHER.WEIGHTS)


def _look(key: str, reference: str) -> None:
    if is_in_zoo(reference):
        zoo_checkpoint(reference, key)
    if "://" in reference:
        return
    path = reference if os.path.isfile(reference) else reference.partition("?")[0]
    if key == _OWN_KEY and not os.path.isfile(path):
        raise FileNotFoundError(f"{key}: the checkpoint {path} does not exist: correct its path.")
    local_weights(path, key)

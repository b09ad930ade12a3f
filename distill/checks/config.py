"""The order of the checks: what costs least comes first.

The pair of teacher and student is checked where it is built, see `distill.build`.
"""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn

from distill.config import check_retired_keys
from distill.data.builtin import check_datasets
from distill.data.image_check import check_images
from distill.data.pseudo.config import check_pseudo_config
from distill.data.unlabeled_config import check_unlabeled_config
from distill.views.classes import class_names, num_classes

__all__ = ["check_config", "check_student_classes"]


def check_config(cfg: CfgNode, *, training: bool = True) -> None:
    """Checks keys and datasets; makes the built-in datasets, and registers JSON files.

    Args:
        cfg: the config.
        training: check what is trained on too.

    Raises:
        ValueError: a key asks for what does not exist or fit, or a dataset is unknown or damaged.
        FileNotFoundError: a file or folder of a dataset is missing, or an image.
    """
    check_retired_keys(cfg)
    check_pseudo_config(cfg)
    if training:
        if cfg.DATASETS.UNLABELED:
            check_unlabeled_config(cfg)
        for key in ("TRAIN", "UNLABELED", "PSEUDO"):
            check_datasets(cfg.DATASETS[key], key=f"DATASETS.{key}")
        named = cfg.DISTILL.PSEUDO.CLASSES_OF
        check_datasets((named,) if named else (), key="DISTILL.PSEUDO.CLASSES_OF")
    check_datasets(cfg.DATASETS.TEST, key="DATASETS.TEST")
    check_images(cfg, training=training)


def check_student_classes(cfg: CfgNode, student: nn.Module) -> None:
    """Refuses a student whose number of classes is not that of the pseudo labels it trains on.

    Args:
        cfg: the config.
        student: the student.

    Raises:
        ValueError: one sentence that names the key.
    """
    names = class_names(cfg) if cfg.DATASETS.PSEUDO else ()
    if names and len(names) != num_classes(student):
        raise ValueError(
            f"The student predicts {num_classes(student)} classes, but its dataset has "
            f"{len(names)}: set its NUM_CLASSES, or DISTILL.PSEUDO.CLASSES_OF"
        )

"""The order of the checks: what costs least comes first.

The pair of teacher and student is checked where it is built, see `distill.build`.
"""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.checks.architecture import check_architecture, check_methods_are_used
from distill.checks.classes import check_classes, check_teacher_classes
from distill.checks.teacher import check_teacher, check_weights_are_named
from distill.checks.weights import check_weights
from distill.config import check_keys
from distill.data.builtin import check_datasets
from distill.data.image_check import check_images
from distill.data.pseudo.config import check_pseudo_config
from distill.data.pseudo.masks import refuse_pseudo_masks
from distill.data.unlabeled_config import check_unlabeled_config
from distill.utils.outputs import check_output_folder
from distill.utils.wording import did_you_mean

__all__ = ["check_config"]

# The last one is not in Detectron2 0.6.
_SCHEDULERS = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")


def check_config(
    cfg: CfgNode,
    *,
    training: bool = True,
    compares_teacher: bool = False,
    loads_weights: bool = False,
) -> None:
    """Checks keys, datasets and classes; makes the built-in datasets, and registers JSON files.

    Args:
        cfg: the config.
        training: check what is trained on too.
        compares_teacher: the teacher is evaluated in the student's classes.
        loads_weights: MODEL.WEIGHTS will be loaded.

    Raises:
        ValueError: a key asks for what does not exist or fit, or a dataset is unknown or damaged.
        FileNotFoundError: a file or folder of a dataset is missing, or an image, or weights.
    """
    check_keys(cfg)
    check_output_folder(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    check_architecture(cfg)
    check_pseudo_config(cfg)
    if training:
        check_methods_are_used(cfg)
        _check_scheduler(cfg)
        if cfg.DATASETS.UNLABELED:
            check_unlabeled_config(cfg)
        check_teacher(cfg, evaluated=compares_teacher)
        for key in ("TRAIN", "UNLABELED", "PSEUDO"):
            check_datasets(cfg.DATASETS[key], key=f"DATASETS.{key}")
        refuse_pseudo_masks(cfg)
        named = cfg.DISTILL.PSEUDO.CLASSES_OF
        check_datasets((named,) if named else (), key="DISTILL.PSEUDO.CLASSES_OF")
    check_datasets(cfg.DATASETS.TEST, key="DATASETS.TEST")
    check_classes(cfg, training=training)
    if training:
        check_teacher_classes(cfg, compares=compares_teacher)
        check_weights_are_named(cfg, evaluated=compares_teacher)
    check_weights(cfg, own=loads_weights, teacher=training)
    check_images(cfg, training=training)


def _check_scheduler(cfg: CfgNode) -> None:
    """Refuses a name that Detectron2's builder of schedulers, which the Trainer uses, has not."""
    name = cfg.SOLVER.LR_SCHEDULER_NAME
    if name not in _SCHEDULERS:
        raise ValueError(
            f'SOLVER.LR_SCHEDULER_NAME is "{name}"; choose one of {", ".join(_SCHEDULERS)}'
            f"{did_you_mean(name, _SCHEDULERS)}"
        )

"""Configuration keys of ATSS; the defaults are those of arXiv 1912.02424 and its code."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.modeling.dense.config import tower_keys
from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import list_of, number, whole

__all__ = ["add_atss_config"]


@defines_keys
def add_atss_config(cfg: CfgNode) -> None:
    """Adds the keys of ATSS to a Detectron2 config, in place.

    Each level has one anchor a location, whose size is MODEL.ANCHOR_GENERATOR.SIZES'.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    # SCORE_THRESH_TEST is of the class score, without the centerness.
    atss = cfg.MODEL.ATSS = tower_keys(score_thresh=0.05)
    # Anchors a level, the nearest to an object's center, that are candidates for it.
    atss.TOPK = 9
    # Weights of (dx, dy, dw, dh) in the box transform.
    atss.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    # Weight of the positives in the focal loss, and its exponent.
    atss.FOCAL_LOSS_ALPHA = 0.25
    atss.FOCAL_LOSS_GAMMA = 2.0
    # Factors of the focal loss, the GIoU loss and the centerness' cross-entropy.
    atss.CLS_LOSS_WEIGHT = 1.0
    atss.BOX_LOSS_WEIGHT = 2.0
    atss.CENTERNESS_LOSS_WEIGHT = 1.0
    limit(
        atss,
        TOPK=whole(at_least=1),
        BBOX_REG_WEIGHTS=list_of(number(above=0), length=4),
        FOCAL_LOSS_ALPHA=number(at_least=0, at_most=1),
        FOCAL_LOSS_GAMMA=number(at_least=0),
        CLS_LOSS_WEIGHT=number(at_least=0),
        BOX_LOSS_WEIGHT=number(at_least=0),
        CENTERNESS_LOSS_WEIGHT=number(at_least=0),
    )

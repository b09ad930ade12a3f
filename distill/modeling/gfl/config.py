"""Configuration keys of GFL; the defaults are those of arXiv 2006.04388 and its code."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.modeling.dense.config import tower_keys
from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import number, whole

__all__ = ["add_gfl_config"]


@defines_keys
def add_gfl_config(cfg: CfgNode) -> None:
    """Adds the keys of GFL to a Detectron2 config, in place.

    Each level has one anchor a location, whose size is MODEL.ANCHOR_GENERATOR.SIZES' and matters
    for the assignment alone.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    gfl = cfg.MODEL.GFL = tower_keys(score_thresh=0.05)
    # Anchors a level, the nearest to an object's center, that are candidates for it.
    gfl.TOPK = 9
    # Largest distance from a location to a side of its box, in strides: the distribution has one
    # bin more.
    gfl.REG_MAX = 16
    # Exponent of the quality focal loss' weight.
    gfl.QUALITY_BETA = 2.0
    # Factors of the quality focal loss, the GIoU loss and the distribution focal loss.
    gfl.CLS_LOSS_WEIGHT = 1.0
    gfl.BOX_LOSS_WEIGHT = 2.0
    gfl.DFL_LOSS_WEIGHT = 0.25
    limit(
        gfl,
        TOPK=whole(at_least=1),
        REG_MAX=whole(at_least=1),
        QUALITY_BETA=number(at_least=0),
        CLS_LOSS_WEIGHT=number(at_least=0),
        BOX_LOSS_WEIGHT=number(at_least=0),
        DFL_LOSS_WEIGHT=number(at_least=0),
    )

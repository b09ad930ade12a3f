"""Which values of Detectron2's keys cannot be together; each would end in a traceback."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from detectron2.config import CfgNode

__all__ = ["conflicts"]

# Formats of other names have as many channels as PIL says.
_CHANNELS = {"BGR": 3, "RGB": 3, "YUV-BT.601": 3, "L": 1}


def conflicts(cfg: CfgNode) -> Iterator[str]:
    """What contradicts itself in a detector's config, each as a sentence that names the keys.

    Args:
        cfg: a config whose values are each within their limits.
    """
    yield from _pixels(cfg)
    yield from _matching(cfg)
    yield from _box_head(cfg)
    yield from _sizes(cfg)
    yield from _device(cfg)


def _pixels(cfg: CfgNode) -> Iterator[str]:
    mean, std = len(cfg.MODEL.PIXEL_MEAN), len(cfg.MODEL.PIXEL_STD)
    channels = _CHANNELS.get(cfg.INPUT.FORMAT, mean)
    if {mean, std} != {channels}:
        yield (
            f"MODEL.PIXEL_MEAN has {mean} numbers and MODEL.PIXEL_STD {std}, but images of "
            f"INPUT.FORMAT {cfg.INPUT.FORMAT} have {channels} channels: give a number for each"
        )


def _matching(cfg: CfgNode) -> Iterator[str]:
    for name in ("RPN", "ROI_HEADS", "RETINANET"):
        thresholds, labels = cfg.MODEL[name].IOU_THRESHOLDS, cfg.MODEL[name].IOU_LABELS
        if list(thresholds) != sorted(thresholds):
            yield f"MODEL.{name}.IOU_THRESHOLDS {tuple(thresholds)} must rise"
        if len(labels) != len(thresholds) + 1:
            yield (
                f"MODEL.{name}.IOU_LABELS has {len(labels)} labels for {len(thresholds)} "
                "IOU_THRESHOLDS: give one label more"
            )


def _box_head(cfg: CfgNode) -> Iterator[str]:
    head = cfg.MODEL.ROI_BOX_HEAD
    if head.NAME == "FastRCNNConvFCHead" and not head.NUM_FC + head.NUM_CONV:
        yield "MODEL.ROI_BOX_HEAD.NUM_FC and NUM_CONV are 0: give the box head a layer"


def _sizes(cfg: CfgNode) -> Iterator[str]:
    sizes, crop = tuple(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.CROP
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(sizes) != 2:
        yield (
            f"INPUT.MIN_SIZE_TRAIN is {sizes}, but INPUT.MIN_SIZE_TRAIN_SAMPLING is "
            '"range": give the least and the largest size'
        )
    if crop.ENABLED and crop.TYPE.startswith("relative") and max(crop.SIZE) > 1:
        yield (
            f"INPUT.CROP.SIZE is {tuple(crop.SIZE)}, but INPUT.CROP.TYPE is "
            f'"{crop.TYPE}": give shares of the image, or set the type to absolute'
        )


def _device(cfg: CfgNode) -> Iterator[str]:
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError:
        yield f'MODEL.DEVICE is "{cfg.MODEL.DEVICE}", which is no device: take cpu or cuda'

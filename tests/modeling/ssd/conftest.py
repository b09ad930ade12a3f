from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg

from distill import add_distill_config


@pytest.fixture
def ssd_cfg() -> Callable[..., CfgNode]:
    """Makes the config of an SSD of a few channels for 64x64 images, with levels 8x8, 4x4, 2x2.

    Changes are given as MODEL__SSD__NORM="BN".
    """

    def make(**changes: Any) -> CfgNode:
        cfg = get_cfg()
        add_distill_config(cfg)
        model = cfg.MODEL
        model.DEVICE = "cpu"
        model.META_ARCHITECTURE = "SSD"
        model.PIXEL_STD = [60.0, 60.0, 60.0]
        model.BACKBONE.NAME = "build_ssd_vgg_backbone"
        model.ANCHOR_GENERATOR.NAME = "SSDAnchorGenerator"
        model.ANCHOR_GENERATOR.OFFSET = 0.5
        model.ANCHOR_GENERATOR.SIZES = [12, 24, 40, 60]
        model.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 2.0]]
        ssd = model.SSD
        ssd.NUM_CLASSES = 3
        ssd.IMAGE_SIZE = 64
        ssd.VGG_CHANNELS = (4, 6, 8, 8, 8)
        ssd.VGG_CONVS = (1, 2, 1, 1, 1)
        ssd.FC_CHANNELS = 12
        ssd.FC_DILATION = 2
        ssd.EXTRA_CHANNELS = (8,)
        ssd.EXTRA_CONV_STRIDES = (2,)
        ssd.EXTRA_PADDINGS = (1,)
        ssd.EXTRA_STRIDES = (32,)
        cfg.merge_from_list([x for k, v in changes.items() for x in (k.replace("__", "."), v)])
        return cfg

    return make

"""SSD, real-valued and 1-bit: detector, backbones, anchors, matching and losses."""

from distill.modeling.ssd.anchors import SSDAnchorGenerator
from distill.modeling.ssd.config import add_ssd_config
from distill.modeling.ssd.detector import SSD
from distill.modeling.ssd.head import SSDHead
from distill.modeling.ssd.losses import mine_hard_negatives, multibox_loss
from distill.modeling.ssd.matching import box_deltas, match_anchors
from distill.modeling.ssd.vgg import (
    L2Norm,
    SSDBackbone,
    build_ssd_bivgg_backbone,
    build_ssd_vgg_backbone,
)

__all__ = [
    "SSD",
    "L2Norm",
    "SSDAnchorGenerator",
    "SSDBackbone",
    "SSDHead",
    "add_ssd_config",
    "box_deltas",
    "build_ssd_bivgg_backbone",
    "build_ssd_vgg_backbone",
    "match_anchors",
    "mine_hard_negatives",
    "multibox_loss",
]

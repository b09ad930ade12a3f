"""ATSS: detector, assignment, head and losses, and what GFL shares with it."""

from distill.modeling.atss.assigner import Candidates, assign_anchors, find_candidates
from distill.modeling.atss.backbone import build_resnet_fpn_p5_backbone
from distill.modeling.atss.base import AdaptiveDetector
from distill.modeling.atss.config import add_atss_config
from distill.modeling.atss.detector import ATSS
from distill.modeling.atss.geometry import box_centers, side_distances
from distill.modeling.atss.head import ATSSHead
from distill.modeling.atss.losses import centerness_target, class_targets, leave_out_ignored

__all__ = [
    "ATSS",
    "ATSSHead",
    "AdaptiveDetector",
    "Candidates",
    "add_atss_config",
    "assign_anchors",
    "box_centers",
    "build_resnet_fpn_p5_backbone",
    "centerness_target",
    "class_targets",
    "find_candidates",
    "leave_out_ignored",
    "side_distances",
]

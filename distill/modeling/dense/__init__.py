"""What the dense detectors share: base, assignment, targets, head, keys and backbone."""

from distill.modeling.dense.adaptive import AdaptiveDetector
from distill.modeling.dense.assigner import Candidates, assign_anchors, find_candidates
from distill.modeling.dense.backbone import build_resnet_fpn_p5_backbone
from distill.modeling.dense.base import BaseDenseDetector
from distill.modeling.dense.config import (
    detection_arguments,
    tower_arguments,
    tower_detector_arguments,
    tower_keys,
)
from distill.modeling.dense.geometry import box_centers, side_distances
from distill.modeling.dense.head import ScaledHead
from distill.modeling.dense.targets import (
    CERTAIN_BACKGROUND,
    class_targets,
    leave_out_ignored,
    pad_ground_truth,
    targets_of,
)

__all__ = [
    "CERTAIN_BACKGROUND",
    "AdaptiveDetector",
    "BaseDenseDetector",
    "Candidates",
    "ScaledHead",
    "assign_anchors",
    "box_centers",
    "build_resnet_fpn_p5_backbone",
    "class_targets",
    "detection_arguments",
    "find_candidates",
    "leave_out_ignored",
    "pad_ground_truth",
    "side_distances",
    "targets_of",
    "tower_arguments",
    "tower_detector_arguments",
    "tower_keys",
]

"""Keys that several dense detectors have, and the arguments that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone

from distill.modeling.norm import head_norm
from distill.utils.config_keys import limit
from distill.utils.key_limits import list_of, number, text, whole

__all__ = ["detection_arguments", "tower_arguments", "tower_detector_arguments", "tower_keys"]


def tower_keys(*, score_thresh: float) -> CfgNode:
    """The keys of a detector with RetinaNet's two branches: those of FCOS, ATSS and GFL.

    Every node gets a tuple of levels of its own, as YAML would write a shared one as a reference.

    Args:
        score_thresh: default of SCORE_THRESH_TEST.
    """
    node = CfgNode()
    # Classes without the background.
    node.NUM_CLASSES = 80
    # Levels of the backbone that the head reads.
    node.IN_FEATURES = tuple(f"p{level}" for level in range(3, 8))
    # Convolutions of each branch of the head, and their normalization.
    node.NUM_CONVS = 4
    node.NORM = "GN"
    # Score that all classes start with.
    node.PRIOR_PROB = 0.01
    # Boxes below this score are dropped; so many of each level are left to NMS.
    node.SCORE_THRESH_TEST = score_thresh
    node.TOPK_CANDIDATES_TEST = 1000
    node.NMS_THRESH_TEST = 0.6
    limit(
        node,
        NUM_CLASSES=whole(at_least=1),
        IN_FEATURES=list_of(text(), at_least=1, distinct=True),
        NUM_CONVS=whole(at_least=1),
        PRIOR_PROB=number(above=0, below=1),
        SCORE_THRESH_TEST=number(at_least=0, at_most=1),
        TOPK_CANDIDATES_TEST=whole(at_least=1),
        NMS_THRESH_TEST=number(at_least=0, at_most=1),
    )
    return node


def detection_arguments(cfg: CfgNode, node: CfgNode) -> dict[str, Any]:
    """The arguments that every dense detector reads alike.

    Args:
        cfg: the whole config.
        node: the detector's own keys.
    """
    return {
        "num_classes": node.NUM_CLASSES,
        "test_score_thresh": node.SCORE_THRESH_TEST,
        "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
        "test_nms_thresh": node.NMS_THRESH_TEST,
        "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
    }


def tower_arguments(
    input_shape: Sequence[ShapeSpec],
    *,
    num_classes: int,
    num_convs: int,
    norm: str,
    prior_prob: float,
) -> dict[str, Any]:
    """The arguments of Detectron2's RetinaNetHead and FCOSHead.

    Args:
        input_shape: of each level; all have the same channels, which all convolutions keep.
        num_classes: K.
        num_convs: 3x3 convolutions of each branch.
        norm: their normalization, see :func:`distill.modeling.norm.head_norm`.
        prior_prob: score that all classes start with.
    """
    return {
        "input_shape": list(input_shape),
        "num_classes": num_classes,
        "conv_dims": [input_shape[0].channels] * num_convs,
        "norm": head_norm(norm),
        "prior_prob": prior_prob,
    }


def tower_detector_arguments(cfg: CfgNode, node: CfgNode) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a detector with RetinaNet's two branches, and those of its head.

    Args:
        cfg: the whole config.
        node: the detector's own keys, which begin with :func:`tower_keys`.
    """
    backbone = build_backbone(cfg)
    tower = tower_arguments(
        [backbone.output_shape()[name] for name in node.IN_FEATURES],
        num_classes=node.NUM_CLASSES,
        num_convs=node.NUM_CONVS,
        norm=node.NORM,
        prior_prob=node.PRIOR_PROB,
    )
    shared = {"backbone": backbone, "head_in_features": list(node.IN_FEATURES)}
    return {**shared, **detection_arguments(cfg, node)}, tower

"""Detectron2's FCOS from a YAML config; Detectron2 itself builds it from Python configs only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import Boxes, Instances
from torch import Tensor

from distill.modeling.dense.config import tower_detector_arguments, tower_keys
from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import number
from distill.views.detector_keys import DetectorKeys, reads_keys

__all__ = ["ConfigurableFCOS", "add_fcos_config"]


@defines_keys
def add_fcos_config(cfg: CfgNode) -> None:
    """Adds the keys of FCOS to a Detectron2 config, in place.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    # SCORE_THRESH_TEST is of the geometric mean of class score and centerness.
    fcos = cfg.MODEL.FCOS = tower_keys(score_thresh=0.2)
    # Radius, in strides, around an object's center within which points are positive.
    fcos.CENTER_SAMPLING_RADIUS = 1.5
    # Weight of the positives in the focal loss, and its exponent.
    fcos.FOCAL_LOSS_ALPHA = 0.25
    fcos.FOCAL_LOSS_GAMMA = 2.0
    limit(
        fcos,
        CENTER_SAMPLING_RADIUS=number(above=0),
        FOCAL_LOSS_ALPHA=number(at_least=0, at_most=1),
        FOCAL_LOSS_GAMMA=number(at_least=0),
    )


@META_ARCH_REGISTRY.register()
@reads_keys(DetectorKeys("MODEL.FCOS.NUM_CLASSES", ("MODEL.FCOS.IN_FEATURES",)))
class ConfigurableFCOS(FCOS):
    """FCOS (arXiv 1904.01355), built from MODEL.FCOS."""

    @configurable
    def __init__(self, **arguments: Any) -> None:
        """Builds FCOS.

        Args:
            arguments: those of Detectron2's FCOS.
        """
        super().__init__(**arguments)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments from MODEL.FCOS and what is common to all detectors."""
        node = cfg.MODEL.FCOS
        arguments, tower = tower_detector_arguments(cfg, node)
        return {
            **arguments,
            "head": FCOSHead(**tower),
            "center_sampling_radius": node.CENTER_SAMPLING_RADIUS,
            "focal_loss_alpha": node.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": node.FOCAL_LOSS_GAMMA,
        }

    @torch.no_grad()
    def label_anchors(self, anchors: list[Boxes], gt_instances: Sequence[Instances]) -> Any:
        """Detectron2's labels; its version 0.6 fails where an image has no objects.

        Args:
            anchors: of each level.
            gt_instances: the objects, one Instances an image.

        Returns:
            For each image (R,) labels, K for the background, and the objects' boxes.
        """
        return super().label_anchors(anchors, [x if len(x) else _nothing(x) for x in gt_instances])

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        pred_anchor_deltas: Sequence[Tensor],
        gt_boxes: Sequence[Boxes],
        pred_centerness: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Detectron2's losses, in float32 whatever the predictions are in; its own need that.

        Args:
            anchors: of each level.
            pred_logits: (N, R_l, K) of each level.
            gt_labels: (R,) of each image.
            pred_anchor_deltas: (N, R_l, 4) of each level.
            gt_boxes: R of each image.
            pred_centerness: (N, R_l, 1) of each level.
        """
        logits, deltas, centerness = (
            [x.float() for x in levels]
            for levels in (pred_logits, pred_anchor_deltas, pred_centerness)
        )
        return super().losses(anchors, logits, gt_labels, deltas, gt_boxes, centerness)


def _nothing(instances: Instances) -> Instances:
    """An object without area, inside which no location lies."""
    boxes, classes = instances.gt_boxes.tensor, instances.gt_classes
    return Instances(
        instances.image_size,
        gt_boxes=Boxes(boxes.new_zeros(1, 4)),
        gt_classes=classes.new_zeros(1),
    )

"""ATSS as a Detectron2 detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor
from torch.nn import functional as F

from distill.modeling.atss.head import ATSSHead
from distill.modeling.atss.losses import centerness_target
from distill.modeling.dense.adaptive import AdaptiveDetector
from distill.modeling.dense.targets import class_targets, leave_out_ignored
from distill.ops.boxes import aligned_overlap, box_centers
from distill.utils.distributed import mean_over_devices
from distill.views.detector_keys import DetectorKeys, reads_keys
from distill.views.heads import apply_deltas, central_probability

__all__ = ["ATSS"]


@META_ARCH_REGISTRY.register()
@reads_keys(DetectorKeys("MODEL.ATSS.NUM_CLASSES", ("MODEL.ATSS.IN_FEATURES",)))
class ATSS(AdaptiveDetector):
    """ATSS, arXiv 1912.02424: focal loss, GIoU loss and centerness on adaptively chosen anchors."""

    @configurable
    def __init__(
        self,
        *,
        box_weights: Sequence[float],
        focal_loss_alpha: float,
        focal_loss_gamma: float,
        cls_loss_weight: float,
        box_loss_weight: float,
        centerness_loss_weight: float,
        **arguments: Any,
    ) -> None:
        """Puts the detector together.

        Args:
            box_weights: of (dx, dy, dw, dh) in the box transform.
            focal_loss_alpha: balance of positives in the focal loss.
            focal_loss_gamma: exponent of the focal loss.
            cls_loss_weight: factor of the focal loss.
            box_loss_weight: factor of the GIoU loss.
            centerness_loss_weight: factor of the centerness' cross-entropy.
            arguments: those of :class:`~distill.modeling.dense.adaptive.AdaptiveDetector`.
        """
        transform = Box2BoxTransform(weights=tuple(box_weights))
        super().__init__(box2box_transform=transform, **arguments)
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.cls_loss_weight = cls_loss_weight
        self.box_loss_weight = box_loss_weight
        self.centerness_loss_weight = centerness_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments from MODEL.ATSS, MODEL.ANCHOR_GENERATOR and what all detectors share."""
        node = cfg.MODEL.ATSS
        arguments, tower = cls.shared_arguments(cfg, node)
        return {
            **arguments,
            "head": ATSSHead(**tower),
            "box_weights": node.BBOX_REG_WEIGHTS,
            "focal_loss_alpha": node.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": node.FOCAL_LOSS_GAMMA,
            "centerness_loss_weight": node.CENTERNESS_LOSS_WEIGHT,
        }

    def losses(
        self,
        anchors: list[Boxes],
        predictions: Sequence[list[Tensor]],
        labels: Tensor,
        boxes: Tensor,
    ) -> dict[str, Tensor]:
        """Computes the losses `loss_cls`, `loss_box_reg` and `loss_centerness`.

        The focal loss and the centerness' are divided by the number of positives, the GIoU loss
        by the sum of its weights, the positives' centerness; both are means over all devices and
        at least 1 (the authors' code has no such floor for the latter).
        """
        logits, deltas, centerness = (
            torch.cat(x, dim=1).float() for x in self.by_anchor(predictions)
        )
        logits, labels = leave_out_ignored(logits, labels, self.num_classes)
        positive = labels != self.num_classes
        table = Boxes.cat(anchors).tensor
        predicted = apply_deltas(self.box2box_transform, deltas, table)
        target = centerness_target(box_centers(table), boxes)
        weight = target * positive
        number = mean_over_devices(positive.sum())
        focal = sigmoid_focal_loss(
            logits,
            class_targets(labels, positive, self.num_classes),
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        box = ((1 - aligned_overlap(predicted, boxes)) * weight).sum()
        central = F.binary_cross_entropy_with_logits(
            centerness[..., 0], target, weight=positive.float(), reduction="sum"
        )
        return {
            "loss_cls": self.cls_loss_weight * focal / number,
            "loss_box_reg": self.box_loss_weight * box / mean_over_devices(weight.sum()),
            "loss_centerness": self.centerness_loss_weight * central / number,
        }

    def objectness(self, outputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The geometric mean of the best class' probability and centerness, (N, R_l) by level.

        Args:
            outputs: what the head returned, (N, R_l, D) by level: logits, deltas, centerness.
        """
        logits, _, centerness = outputs
        return central_probability(logits, centerness)

    def scored_deltas(
        self, predictions: Sequence[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and box deltas by level.

        As in the authors' code, the score is the geometric mean of class probability and
        centerness, and the threshold applies to the former alone.

        Args:
            predictions: of the head.
        """
        logits, deltas, centerness = self.by_anchor(predictions)
        scores = [
            (F.threshold(x.sigmoid(), self.test_score_thresh, 0.0) * y.sigmoid()).sqrt()
            for x, y in zip(logits, centerness, strict=True)
        ]
        return scores, deltas

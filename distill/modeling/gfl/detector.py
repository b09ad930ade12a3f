"""GFL as a Detectron2 detector.

Letters: N images, R anchors, K classes, B bins of a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.box_regression import Box2BoxTransformLinear
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torch.nn import functional as F

from distill.modeling.dense.adaptive import AdaptiveDetector
from distill.modeling.dense.targets import class_targets, leave_out_ignored, pad_ground_truth
from distill.modeling.gfl.distribution import expected_distance
from distill.modeling.gfl.head import GFLHead
from distill.modeling.gfl.losses import distribution_focal_loss, quality_focal_loss
from distill.modeling.gfl.region import valuable_region
from distill.ops.boxes import aligned_overlap, box_centers, side_distances
from distill.utils.distributed import mean_over_devices
from distill.views.detector_keys import DetectorKeys, reads_keys

__all__ = ["GFL"]

# How far below reg_max, in strides, the distances to learn end, as in the authors' code.
_MARGIN = 0.1


@META_ARCH_REGISTRY.register()
@reads_keys(DetectorKeys("MODEL.GFL.NUM_CLASSES", ("MODEL.GFL.IN_FEATURES",)))
class GFL(AdaptiveDetector):
    """GFL, arXiv 2006.04388: scores that rate boxes, and boxes as distributions.

    A location predicts how far its anchor's center is from the four sides of the box, in strides;
    the anchor's size matters for the assignment alone.

    Attributes:
        reg_max: the largest such distance.
        num_bins: B = reg_max + 1, the bins of a side.
        box2box_transform: makes boxes of distances in pixels, not of the head's distributions:
            see :meth:`decode_boxes`.
    """

    @configurable
    def __init__(
        self,
        *,
        reg_max: int,
        quality_beta: float,
        cls_loss_weight: float,
        box_loss_weight: float,
        dfl_loss_weight: float,
        **arguments: Any,
    ) -> None:
        """Puts the detector together.

        Args:
            reg_max: of the head.
            quality_beta: exponent of the quality focal loss' weight.
            cls_loss_weight: factor of the quality focal loss.
            box_loss_weight: factor of the GIoU loss.
            dfl_loss_weight: factor of the distribution focal loss.
            arguments: those of :class:`~distill.modeling.dense.adaptive.AdaptiveDetector`.

        Raises:
            ValueError: if `reg_max` is not positive, or as there.
        """
        transform = Box2BoxTransformLinear(normalize_by_size=False)
        super().__init__(box2box_transform=transform, **arguments)
        if reg_max < 1:
            raise ValueError(f"MODEL.GFL.REG_MAX is {reg_max}, but must be at least 1.")
        self.reg_max = reg_max
        self.num_bins = reg_max + 1
        self.quality_beta = quality_beta
        self.cls_loss_weight = cls_loss_weight
        self.box_loss_weight = box_loss_weight
        self.dfl_loss_weight = dfl_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments from MODEL.GFL, MODEL.ANCHOR_GENERATOR and what all detectors share."""
        node = cfg.MODEL.GFL
        arguments, tower = cls.shared_arguments(cfg, node)
        return {
            **arguments,
            "head": GFLHead(reg_max=node.REG_MAX, **tower),
            "reg_max": node.REG_MAX,
            "quality_beta": node.QUALITY_BETA,
            "dfl_loss_weight": node.DFL_LOSS_WEIGHT,
        }

    def decode_boxes(self, deltas: Tensor, anchors: Tensor, stride: int) -> Tensor:
        """The boxes that distributions stand for, not clipped to the image.

        Args:
            deltas: (N, R, 4 B) logits of the distributions.
            anchors: (R, 4) corners in pixels.
            stride: pixels per cell of their level.

        Returns:
            (N, R, 4) float32 corners in pixels.
        """
        centers, distances = box_centers(anchors), self._distances(deltas, stride)
        return torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)

    def _distances(self, deltas: Tensor, stride: int) -> Tensor:
        """(N, R, 4) pixels to the left, top, right and bottom side."""
        return expected_distance(self._by_side(deltas)) * stride

    def _by_side(self, deltas: Tensor) -> Tensor:
        """(..., 4, B) from (..., 4 B)."""
        return deltas.unflatten(-1, (4, self.num_bins))

    @torch.no_grad()
    def valuable_region(self, anchors: list[Boxes], gt_instances: list[Instances]) -> Tensor:
        """Where localization is worth distilling beside the positives (LD, arXiv 2102.12252).

        These are the anchors that no object was given to and whose DIoU with some object is at
        least a quarter of its assignment's threshold, but below that; they weigh as much as their
        IoU. What of it is ours is told at :func:`distill.modeling.gfl.valuable_region`.

        Args:
            anchors: of each level, R in all.
            gt_instances: the objects, one Instances an image.

        Returns:
            (N, R) float32 weights, 0 outside of the region.
        """
        boxes, _, valid = pad_ground_truth(gt_instances)
        return valuable_region([x.tensor for x in anchors], boxes, valid, self.topk)

    def losses(
        self,
        anchors: list[Boxes],
        predictions: Sequence[list[Tensor]],
        labels: Tensor,
        boxes: Tensor,
    ) -> dict[str, Tensor]:
        """Computes the losses `loss_cls` (quality), `loss_box_reg` (GIoU) and `loss_dfl`.

        A positive's box losses are weighted by the best of its class scores and divided by the
        sum of these weights, the mean over the four sides being that of the distributions; the
        quality focal loss is divided by the number of positives. Both divisors are means over all
        devices and at least 1.
        """
        by_level, deltas = self.by_anchor(predictions)
        logits = torch.cat(by_level, dim=1).float()
        strides = self.anchor_generator.strides
        predicted = torch.cat(
            [self.decode_boxes(*x) for x in zip(deltas, _tables(anchors), strides, strict=True)],
            dim=1,
        )
        logits, labels = leave_out_ignored(logits, labels, self.num_classes)
        positive = labels != self.num_classes
        quality = aligned_overlap(predicted.detach(), boxes, "iou") * positive
        weight = logits.detach().amax(dim=-1).sigmoid() * positive
        number, total = mean_over_devices(positive.sum()), mean_over_devices(weight.sum())
        target = class_targets(labels, quality, self.num_classes)
        cls = quality_focal_loss(logits, target, self.quality_beta).sum()
        box = ((1 - aligned_overlap(predicted, boxes)) * weight).sum()
        dfl = (self._distribution_loss(anchors, deltas, boxes) * weight).sum()
        return {
            "loss_cls": self.cls_loss_weight * cls / number,
            "loss_box_reg": self.box_loss_weight * box / total,
            "loss_dfl": self.dfl_loss_weight * dfl / total,
        }

    def _distribution_loss(
        self, anchors: list[Boxes], deltas: list[Tensor], boxes: Tensor
    ) -> Tensor:
        """(N, R) mean over the four sides."""
        losses = []
        parts = boxes.split([len(x) for x in anchors], dim=1)
        levels = zip(_tables(anchors), deltas, parts, self.anchor_generator.strides, strict=True)
        for table, level, part, stride in levels:
            distance = side_distances(box_centers(table), part) / stride
            distance = distance.clamp(min=0, max=self.reg_max - _MARGIN)
            losses.append(distribution_focal_loss(self._by_side(level), distance).mean(dim=-1))
        return torch.cat(losses, dim=1)

    def scored_deltas(
        self, predictions: Sequence[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Scores, and distances in pixels, by level.

        Args:
            predictions: of the head.
        """
        logits, deltas = self.by_anchor(predictions)
        scores = [F.threshold(x.sigmoid(), self.test_score_thresh, 0.0) for x in logits]
        levels = zip(deltas, self.anchor_generator.strides, strict=True)
        return scores, [self._distances(*x) for x in levels]


def _tables(anchors: list[Boxes]) -> list[Tensor]:
    return [x.tensor for x in anchors]

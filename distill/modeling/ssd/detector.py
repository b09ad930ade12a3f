"""SSD as a Detectron2 detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_anchor_generator, build_backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from distill.losses import binary_class_logits
from distill.modeling.dense.base import BaseDenseDetector
from distill.modeling.dense.config import detection_arguments
from distill.modeling.ssd.head import SSDHead
from distill.modeling.ssd.losses import multibox_loss
from distill.modeling.ssd.matching import box_deltas, match_anchors
from distill.views.detector_keys import DetectorKeys, reads_keys
from distill.views.heads import apply_deltas

__all__ = ["SSD"]


@META_ARCH_REGISTRY.register()
@reads_keys(DetectorKeys("MODEL.SSD.NUM_CLASSES"))
class SSD(BaseDenseDetector):
    """SSD, arXiv 1512.02325, on images of one size.

    Its head (:class:`SSDHead`) reads all maps of the backbone, and predicts K + 1 logits in
    Detectron2's order of classes, the background last.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        image_size: int,
        box_weights: Sequence[float],
        iou_threshold: float,
        negative_ratio: float,
        **arguments: Any,
    ) -> None:
        """Puts the detector together.

        Args:
            backbone: its outputs are the levels, in the order of its `output_shape()`.
            image_size: height and width of the images in pixels.
            box_weights: of (dx, dy, dw, dh) in the box transform.
            iou_threshold: above which an anchor is positive.
            negative_ratio: hard negatives for each positive.
            arguments: the other ones of :class:`~distill.modeling.dense.base.BaseDenseDetector`.
        """
        super().__init__(
            backbone=backbone,
            head_in_features=list(backbone.output_shape()),
            box2box_transform=Box2BoxTransform(weights=tuple(box_weights)),
            **arguments,
        )
        self.image_size = image_size
        self.iou_threshold = iou_threshold
        self.negative_ratio = negative_ratio

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments from MODEL.SSD, MODEL.ANCHOR_GENERATOR and what all detectors share."""
        node = cfg.MODEL.SSD
        backbone = build_backbone(cfg)
        shapes = list(backbone.output_shape().values())
        anchor_generator = build_anchor_generator(cfg, shapes)
        channels = [shape.channels for shape in shapes]
        return {
            **detection_arguments(cfg, node),
            "backbone": backbone,
            "head": SSDHead(channels, anchor_generator.num_anchors, node.NUM_CLASSES),
            "anchor_generator": anchor_generator,
            "image_size": node.IMAGE_SIZE,
            "box_weights": node.BBOX_REG_WEIGHTS,
            "iou_threshold": node.IOU_THRESHOLD,
            "negative_ratio": node.NEGATIVE_RATIO,
        }

    def preprocess_image(self, batched_inputs: list[dict[str, Tensor]]) -> ImageList:
        """Normalizes and batches the images.

        Args:
            batched_inputs: Detectron2's inputs.

        Raises:
            ValueError: if the images have another size than the detector is laid out for.
        """
        images = super().preprocess_image(batched_inputs)
        height, width = images.tensor.shape[-2:]
        if (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"SSD got images of {height}x{width} pixels, but MODEL.SSD.IMAGE_SIZE is "
                f"{self.image_size}: set INPUT.AUGMENTATION to ssd, which resizes them."
            )
        return images

    def objectness(self, outputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The probability that an anchor is not background, (N, R_l) by level.

        Args:
            outputs: what the head returned, (N, R_l, D) by level: logits of K + 1 first.
        """
        return [1 - x.float().softmax(dim=-1)[..., -1] for x in outputs[0]]

    def class_logits(self, logits: Tensor) -> Tensor:
        """Logits of each class' own probability, as losses of dense detectors expect them.

        Args:
            logits: (N, R, K + 1), the background last.

        Returns:
            (N, R, K) float32.
        """
        return binary_class_logits(logits)

    def assign(
        self, anchors: Sequence[Tensor], boxes: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :func:`match_anchors`."""
        return match_anchors(torch.cat(list(anchors)), boxes, valid, self.iou_threshold)

    def losses(
        self,
        anchors: list[Boxes],
        predictions: Sequence[list[Tensor]],
        labels: Tensor,
        boxes: Tensor,
    ) -> dict[str, Tensor]:
        """Computes the losses `loss_cls` and `loss_box_reg`, see :func:`multibox_loss`."""
        logits, deltas = (torch.cat(x, dim=1) for x in self.by_anchor(predictions))
        target = box_deltas(Boxes.cat(anchors).tensor, boxes, self.box2box_transform.weights)
        loss_cls, loss_box_reg = multibox_loss(
            logits, deltas, labels, target, negative_ratio=self.negative_ratio
        )
        return {"loss_cls": loss_cls, "loss_box_reg": loss_box_reg}

    def candidates(
        self,
        anchors: list[Boxes],
        predictions: Sequence[list[Tensor]],
        sizes: Sequence[tuple[int, int]],
    ) -> list[Instances]:
        """The best boxes of every class, `test_topk_candidates` of each; see the base."""
        logits, deltas = (torch.cat(x, dim=1) for x in self.by_anchor(predictions))
        scores = logits.float().softmax(dim=-1)[..., :-1]
        boxes = apply_deltas(self.box2box_transform, deltas, Boxes.cat(anchors).tensor)
        scores, index = scores.topk(min(self.test_topk_candidates, scores.shape[1]), dim=1)
        return [self._certain(*x) for x in zip(boxes, scores, index, sizes, strict=True)]

    def _certain(
        self, boxes: Tensor, scores: Tensor, index: Tensor, size: tuple[int, int]
    ) -> Instances:
        """The boxes of one image whose score is high enough.

        Args:
            boxes: (R, 4).
            scores: (T, K) best scores of each class.
            index: (T, K) their boxes.
            size: height and width of the image.
        """
        found = scores > self.test_score_thresh
        return Instances(
            size,
            pred_boxes=Boxes(boxes[index[found]]),
            scores=scores[found],
            pred_classes=found.nonzero()[:, 1],
        )

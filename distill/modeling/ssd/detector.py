"""SSD as a Detectron2 detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import batched_nms
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_anchor_generator, build_backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from distill.losses import binary_class_logits
from distill.modeling.ground_truth import pad_ground_truth, targets_of
from distill.modeling.ssd.head import SSDHead
from distill.modeling.ssd.losses import multibox_loss
from distill.modeling.ssd.matching import box_deltas, match_anchors
from distill.views.heads import apply_deltas

__all__ = ["SSD"]


@META_ARCH_REGISTRY.register()
class SSD(DenseDetector):
    """SSD, arXiv 1512.02325, on images of one size.

    Attributes:
        backbone: gives a dict of maps, all of which the head reads.
        head: see :class:`SSDHead`; Detectron2's order of classes, the background last.
        anchor_generator: gives the anchors of a list of maps.
        box2box_transform: what the head's deltas mean.
        num_classes: K, without the background.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        anchor_generator: nn.Module,
        num_classes: int,
        image_size: int = 300,
        box_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        iou_threshold: float = 0.5,
        negative_ratio: float = 3.0,
        test_score_thresh: float = 0.01,
        test_topk_candidates: int = 400,
        test_nms_thresh: float = 0.45,
        max_detections_per_image: int = 200,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        """Puts the detector together.

        Args:
            backbone: its outputs are the levels, in the order of its `output_shape()`.
            head: maps the list of levels to logits and deltas.
            anchor_generator: Detectron2's interface.
            num_classes: K.
            image_size: height and width of the images in pixels.
            box_weights: of (dx, dy, dw, dh) in the box transform.
            iou_threshold: above which an anchor is positive.
            negative_ratio: hard negatives for each positive.
            test_score_thresh: lowest score of a detection.
            test_topk_candidates: boxes of each class, the best ones, that are left to NMS.
            test_nms_thresh: IoU from which a box suppresses others of its class.
            max_detections_per_image: detections that are kept.
            pixel_mean: per channel, subtracted from the images.
            pixel_std: per channel, by which they are divided then.
        """
        super().__init__(
            backbone,
            head,
            list(backbone.output_shape()),
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        self.anchor_generator = anchor_generator
        self.box2box_transform = Box2BoxTransform(weights=tuple(box_weights))
        self.num_classes = num_classes
        self.image_size = image_size
        self.iou_threshold = iou_threshold
        self.negative_ratio = negative_ratio
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments from MODEL.SSD, MODEL.ANCHOR_GENERATOR and what all detectors share."""
        node = cfg.MODEL.SSD
        backbone = build_backbone(cfg)
        shapes = list(backbone.output_shape().values())
        anchor_generator = build_anchor_generator(cfg, shapes)
        channels = [shape.channels for shape in shapes]
        return {
            "backbone": backbone,
            "head": SSDHead(channels, anchor_generator.num_anchors, node.NUM_CLASSES),
            "anchor_generator": anchor_generator,
            "num_classes": node.NUM_CLASSES,
            "image_size": node.IMAGE_SIZE,
            "box_weights": node.BBOX_REG_WEIGHTS,
            "iou_threshold": node.IOU_THRESHOLD,
            "negative_ratio": node.NEGATIVE_RATIO,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
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

    def decode_boxes(self, deltas: Tensor, anchors: Tensor, stride: int) -> Tensor:
        """Boxes (N, R, 4) in pixels, not clipped to the image.

        Args:
            deltas: (N, R, 4) as `box2box_transform` understands them.
            anchors: (R, 4) corners in pixels.
            stride: pixels per cell of their level.
        """
        return apply_deltas(self.box2box_transform, deltas, anchors)

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

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Computes the losses `loss_cls` and `loss_box_reg`.

        Args:
            images: the batch, N images.
            features: (N, C, H, W) for each level.
            predictions: of the head.
            gt_instances: the objects, one Instances an image.
        """
        logits, deltas = self._flat_predictions(predictions)
        anchors = self.anchor_generator(features)
        labels, boxes = self.label_anchors(anchors, gt_instances)
        target = box_deltas(Boxes.cat(anchors).tensor, boxes, self.box2box_transform.weights)
        loss_cls, loss_box_reg = multibox_loss(
            logits, deltas, labels, target, negative_ratio=self.negative_ratio
        )
        return {"loss_cls": loss_cls, "loss_box_reg": loss_box_reg}

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[Tensor, Tensor]:
        """What every anchor should predict.

        Args:
            anchors: of each level, R in all.
            gt_instances: the objects, one Instances an image.

        Returns:
            (N, R) int64 labels, K for the background, and (N, R, 4) boxes in pixels: the object's,
            or the anchor itself where it is background.
        """
        table = Boxes.cat(anchors).tensor
        boxes, classes, valid = pad_ground_truth(gt_instances)
        index, positive = match_anchors(table, boxes, valid, self.iou_threshold)
        return targets_of(index, positive, boxes, classes, table, self.num_classes)

    def forward_inference(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor]],
    ) -> list[Instances]:
        """Detects.

        Args:
            images: the batch, N images.
            features: (N, C, H, W) for each level.
            predictions: of the head.

        Returns:
            For each image `pred_boxes`, `scores` and `pred_classes`, the best first.
        """
        logits, deltas = self._flat_predictions(predictions)
        scores = logits.float().softmax(dim=-1)[..., :-1]
        anchors = Boxes.cat(self.anchor_generator(features)).tensor
        boxes = self.box2box_transform.apply_deltas(
            deltas.flatten(0, 1), anchors.repeat(len(deltas), 1)
        ).view_as(deltas)
        scores, index = scores.topk(min(self.test_topk_candidates, scores.shape[1]), dim=1)
        sizes = images.image_sizes
        return [self._suppress(*x) for x in zip(boxes, scores, index, sizes, strict=True)]

    def _suppress(
        self, boxes: Tensor, scores: Tensor, index: Tensor, size: tuple[int, int]
    ) -> Instances:
        """Drops low scores and duplicates of one image.

        Args:
            boxes: (R, 4).
            scores: (T, K) best scores of each class.
            index: (T, K) their boxes.
            size: height and width of the image.
        """
        candidates = scores > self.test_score_thresh
        classes = candidates.nonzero()[:, 1]
        boxes, scores = boxes[index[candidates]], scores[candidates]
        keep = batched_nms(boxes, scores, classes, self.test_nms_thresh)
        keep = keep[: self.max_detections_per_image]
        return Instances(
            size, pred_boxes=Boxes(boxes[keep]), scores=scores[keep], pred_classes=classes[keep]
        )

    def _flat_predictions(
        self, predictions: tuple[list[Tensor], list[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, R, K + 1) and deltas (N, R, 4) of all levels."""
        logits, deltas = self._transpose_dense_predictions(
            list(predictions), [self.num_classes + 1, 4]
        )
        return torch.cat(logits, dim=1), torch.cat(deltas, dim=1)

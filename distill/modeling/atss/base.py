"""What ATSS and GFL share: one anchor a location, adaptive assignment, detection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import Backbone, build_anchor_generator, build_backbone
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from distill.modeling.atss.assigner import assign_anchors
from distill.modeling.ground_truth import pad_ground_truth, targets_of
from distill.views.heads import apply_deltas, best_probability

__all__ = ["AdaptiveDetector"]


class AdaptiveDetector(DenseDetector, ABC):
    """A dense detector of one anchor a location, assigned as in ATSS (arXiv 1912.02424).

    A subclass sets `box2box_transform`, which detection decodes boxes with.

    Attributes:
        anchor_generator: gives the anchors of a list of maps.
        num_classes: K.
        topk: candidates a level of the assignment.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str],
        anchor_generator: nn.Module,
        num_classes: int,
        topk: int = 9,
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        """Puts the detector together.

        Args:
            backbone: gives a dict of maps.
            head: maps the list of levels to predictions.
            head_in_features: names of these levels.
            anchor_generator: Detectron2's interface; one anchor a location.
            num_classes: K.
            topk: anchors a level, the nearest to an object, that are candidates for it.
            test_score_thresh: lowest score of a detection.
            test_topk_candidates: boxes of each level, the best ones, that are left to NMS.
            test_nms_thresh: IoU from which a box suppresses others of its class.
            max_detections_per_image: detections that are kept.
            pixel_mean: per channel, subtracted from the images.
            pixel_std: per channel, by which they are divided then.

        Raises:
            ValueError: if a location has another number of anchors than one, or `topk` is not
                positive.
        """
        super().__init__(
            backbone, head, list(head_in_features), pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        name = type(self).__name__
        if set(anchor_generator.num_anchors) != {1}:
            raise ValueError(
                f"{name} has one anchor a location, but MODEL.ANCHOR_GENERATOR makes "
                f"{list(anchor_generator.num_anchors)} on its levels: give SIZES one size for each "
                "level, and one of ASPECT_RATIOS."
            )
        if topk < 1:
            raise ValueError(f"MODEL.{name}.TOPK is {topk}, but must be at least 1.")
        self.anchor_generator = anchor_generator
        self.num_classes = num_classes
        self.topk = topk
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image

    @staticmethod
    def shared_arguments(cfg: CfgNode, node: CfgNode) -> tuple[dict[str, Any], list[ShapeSpec]]:
        """The constructor's arguments but the head, and the shapes of the levels it reads.

        Args:
            cfg: the whole config.
            node: the detector's own keys, MODEL.ATSS or MODEL.GFL.
        """
        backbone = build_backbone(cfg)
        shapes = [backbone.output_shape()[name] for name in node.IN_FEATURES]
        arguments = {
            "backbone": backbone,
            "head_in_features": node.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "num_classes": node.NUM_CLASSES,
            "topk": node.TOPK,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }
        return arguments, shapes

    @abstractmethod
    def losses(
        self,
        anchors: list[Boxes],
        predictions: Sequence[list[Tensor]],
        labels: Tensor,
        boxes: Tensor,
    ) -> dict[str, Tensor]:
        """The training losses.

        Args:
            anchors: of each level, R in all.
            predictions: of the head.
            labels: (N, R), see :meth:`label_anchors`; -1 where neither object nor background.
            boxes: (N, R, 4), likewise.
        """

    @abstractmethod
    def scored_deltas(
        self, predictions: Sequence[list[Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What detection starts from.

        Args:
            predictions: of the head.

        Returns:
            For each level (N, R_l, K) scores, 0 where there is nothing to detect, and (N, R_l, 4)
            deltas as `box2box_transform` understands them.
        """

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Computes the losses.

        Args:
            images: the batch, N images.
            features: (N, C, H, W) for each level.
            predictions: of the head.
            gt_instances: the objects, one Instances an image.
        """
        anchors = self.anchor_generator(features)
        labels, boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, predictions, labels, boxes)

    def class_logits(self, logits: Tensor) -> Tensor:
        """The logits themselves: each class has its own probability.

        Args:
            logits: (N, R, K).
        """
        return logits

    def decode_boxes(self, deltas: Tensor, anchors: Tensor, stride: int) -> Tensor:
        """Boxes (N, R, 4) in pixels, not clipped to the image.

        Args:
            deltas: (N, R, 4) as `box2box_transform` understands them.
            anchors: (R, 4) corners in pixels.
            stride: pixels per cell of their level.
        """
        return apply_deltas(self.box2box_transform, deltas, anchors)

    def objectness(self, outputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The probability of the best class, (N, R_l) by level.

        Args:
            outputs: what the head returned, (N, R_l, D) by level: logits first.
        """
        return best_probability(outputs[0])

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
        boxes, classes, valid = pad_ground_truth(gt_instances)
        tables = [x.tensor for x in anchors]
        index, positive = assign_anchors(tables, boxes, valid, self.topk)
        return targets_of(index, positive, boxes, classes, torch.cat(tables), self.num_classes)

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """Detects.

        Args:
            images: the batch, N images.
            features: (N, C, H, W) for each level.
            predictions: of the head.

        Returns:
            For each image `pred_boxes`, `scores` and `pred_classes`, the best first.
        """
        anchors = self.anchor_generator(features)
        scores, deltas = self.scored_deltas(predictions)
        return [
            self._detect(anchors, [x[index] for x in scores], [x[index] for x in deltas], size)
            for index, size in enumerate(images.image_sizes)
        ]

    def _detect(
        self,
        anchors: list[Boxes],
        scores: list[Tensor],
        deltas: list[Tensor],
        size: tuple[int, int],
    ) -> Instances:
        """The detections of one image of height and width `size`."""
        levels = [
            # The threshold is in the scores already.
            self._decode_per_level_predictions(*level, 0.0, self.test_topk_candidates, size)
            for level in zip(anchors, scores, deltas, strict=True)
        ]
        found = Instances.cat(levels)
        keep = batched_nms(
            found.pred_boxes.tensor, found.scores, found.pred_classes, self.test_nms_thresh
        )
        return found[keep[: self.max_detections_per_image]]

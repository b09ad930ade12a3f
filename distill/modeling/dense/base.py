"""The base of the dense detectors that Detectron2 lacks: ATSS, GFL and SSD.

Letters: N images, H and W cells, A anchors a cell, R anchors of all levels (R_l of one), K classes,
G objects an image, D values that a head predicts for an anchor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from detectron2.layers import batched_nms
from detectron2.modeling import Backbone
from detectron2.modeling.meta_arch.dense_detector import DenseDetector, permute_to_N_HWA_K
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from distill.modeling.dense.targets import pad_ground_truth
from distill.views.heads import apply_deltas, best_probability

__all__ = ["BaseDenseDetector"]


class BaseDenseDetector(DenseDetector, ABC):
    """A dense detector that shows its head as `distill.views.contract.DenseHead` asks for it.

    A subclass says which anchors stand for which objects (:meth:`assign`), what training costs
    (:meth:`losses`), and which boxes are left to NMS (:meth:`candidates`).

    Attributes:
        anchor_generator: gives the anchors of a list of maps.
        box2box_transform: makes boxes of deltas and anchors.
        num_classes: K, without a background.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str],
        anchor_generator: nn.Module,
        box2box_transform: object,
        num_classes: int,
        test_score_thresh: float,
        test_topk_candidates: int,
        test_nms_thresh: float,
        max_detections_per_image: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        """Puts the detector together.

        Args:
            backbone: gives a dict of maps.
            head: maps the list of levels to predictions, each a list of (N, A D, H, W) by level.
            head_in_features: names of these levels.
            anchor_generator: Detectron2's interface.
            box2box_transform: one of Detectron2's Box2BoxTransform classes.
            num_classes: K.
            test_score_thresh: lowest score of a detection.
            test_topk_candidates: how many boxes, the best ones, are left to NMS; of which group
                of boxes, :meth:`candidates` says.
            test_nms_thresh: IoU from which a box suppresses others of its class.
            max_detections_per_image: detections that are kept.
            pixel_mean: per channel, subtracted from the images.
            pixel_std: per channel, by which they are divided then.
        """
        super().__init__(
            backbone, head, list(head_in_features), pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.num_classes = num_classes
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image

    @abstractmethod
    def assign(
        self, anchors: Sequence[Tensor], boxes: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gives anchors to objects.

        Args:
            anchors: (R_l, 4) corners in pixels by level.
            boxes: (N, G, 4) corners of the objects in pixels, padded to G >= 1 an image.
            valid: (N, G) bool, False where padded.

        Returns:
            (N, R) index of each anchor's object, meaningless where it has none, and (N, R) bool,
            whether it has one.
        """

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
            boxes: (N, R, 4) the objects' corners, or the anchors' own.
        """

    @abstractmethod
    def candidates(
        self,
        anchors: list[Boxes],
        predictions: Sequence[list[Tensor]],
        sizes: Sequence[tuple[int, int]],
    ) -> list[Instances]:
        """The boxes that are left to NMS.

        Args:
            anchors: of each level, R in all.
            predictions: of the head.
            sizes: height and width of the N images.

        Returns:
            `pred_boxes`, `scores` and `pred_classes` of each image.
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
        return [
            self._suppress(found)
            for found in self.candidates(anchors, predictions, images.image_sizes)
        ]

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
        index, positive = self.assign(tables, boxes, valid)
        labels = classes.gather(1, index).masked_fill(~positive, self.num_classes)
        matched = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        return labels, torch.where(positive[..., None], matched, torch.cat(tables))

    def by_anchor(self, predictions: Sequence[list[Tensor]]) -> list[list[Tensor]]:
        """What the head returned, each a list of (N, R_l, D) by level.

        Args:
            predictions: of the head, lists of (N, A D, H, W).
        """
        counts = self.anchor_generator.num_anchors
        return [
            [permute_to_N_HWA_K(x, x.shape[1] // a) for x, a in zip(maps, counts, strict=True)]
            for maps in predictions
        ]

    def class_logits(self, logits: Tensor) -> Tensor:
        """Logits of each class' own probability: those of the head, where it has no background.

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

    def _suppress(self, found: Instances) -> Instances:
        """The detections among the candidates of one image."""
        keep = batched_nms(
            found.pred_boxes.tensor, found.scores, found.pred_classes, self.test_nms_thresh
        )
        return found[keep[: self.max_detections_per_image]]

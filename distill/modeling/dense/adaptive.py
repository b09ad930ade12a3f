"""What ATSS and GFL share: one anchor a location, and adaptive assignment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import build_anchor_generator
from detectron2.structures import Boxes, Instances
from torch import Tensor

from distill.modeling.dense.assigner import assign_anchors
from distill.modeling.dense.base import BaseDenseDetector
from distill.modeling.dense.config import tower_detector_arguments

__all__ = ["AdaptiveDetector"]


class AdaptiveDetector(BaseDenseDetector, ABC):
    """A dense detector of one anchor a location, assigned as in ATSS (arXiv 1912.02424).

    Attributes:
        topk: candidates a level of the assignment.
    """

    def __init__(self, *, topk: int, **arguments: Any) -> None:
        """Puts the detector together.

        Args:
            topk: anchors a level, the nearest to an object, that are candidates for it.
            arguments: those of :class:`BaseDenseDetector`.

        Raises:
            ValueError: if a location has another number of anchors than one, or `topk` is not
                positive.
        """
        super().__init__(**arguments)
        name, counts = type(self).__name__, list(self.anchor_generator.num_anchors)
        if set(counts) != {1}:
            raise ValueError(
                f"{name} has one anchor a location, but MODEL.ANCHOR_GENERATOR makes {counts} on "
                "its levels: give SIZES one size for each level, and one of ASPECT_RATIOS."
            )
        if topk < 1:
            raise ValueError(f"MODEL.{name}.TOPK is {topk}, but must be at least 1.")
        self.topk = topk

    @staticmethod
    def shared_arguments(cfg: CfgNode, node: CfgNode) -> tuple[dict[str, Any], dict[str, Any]]:
        """The constructor's arguments that both read alike, and those of the head.

        Args:
            cfg: the whole config.
            node: the detector's own keys, MODEL.ATSS or MODEL.GFL.
        """
        arguments, tower = tower_detector_arguments(cfg, node)
        anchors = build_anchor_generator(cfg, tower["input_shape"])
        weights = {
            "cls_loss_weight": node.CLS_LOSS_WEIGHT,
            "box_loss_weight": node.BOX_LOSS_WEIGHT,
        }
        return {**arguments, **weights, "anchor_generator": anchors, "topk": node.TOPK}, tower

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

    def assign(
        self, anchors: Sequence[Tensor], boxes: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :func:`assign_anchors`."""
        return assign_anchors(anchors, boxes, valid, self.topk)

    def candidates(
        self,
        anchors: list[Boxes],
        predictions: Sequence[list[Tensor]],
        sizes: Sequence[tuple[int, int]],
    ) -> list[Instances]:
        """The best boxes of every level, `test_topk_candidates` of each; see the base."""
        scores, deltas = self.scored_deltas(predictions)
        return [
            Instances.cat(
                [
                    # The threshold is in the scores already.
                    self._decode_per_level_predictions(
                        table, score[index], delta[index], 0.0, self.test_topk_candidates, size
                    )
                    for table, score, delta in zip(anchors, scores, deltas, strict=True)
                ]
            )
            for index, size in enumerate(sizes)
        ]

"""What a ROI head says about boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import Boxes
from torch import Tensor, nn

__all__ = ["RoiOutputs", "box_pooler", "run_roi_head"]


@dataclass(frozen=True)
class RoiOutputs:
    """Raw outputs of a box predictor.

    Attributes:
        scores: (P, K + 1) logits, the background last.
        deltas: (P, 4) class-agnostic or (P, 4 K) class-specific box deltas.
        box_transform: Detectron2's Box2BoxTransform that gives the deltas their meaning.
    """

    scores: Tensor
    deltas: Tensor
    box_transform: Any

    def __getitem__(self, index: Tensor) -> RoiOutputs:
        """The outputs of some of the proposals, by a (Q,) index."""
        return RoiOutputs(self.scores[index], self.deltas[index], self.box_transform)

    def class_deltas(self, classes: Tensor) -> Tensor:
        """Deltas (P, 4) of each proposal's given class (P,); the background takes the last."""
        if self.deltas.shape[1] == 4:
            return self.deltas
        deltas = self.deltas.view(len(self.deltas), -1, 4)
        index = classes.clamp(max=deltas.shape[1] - 1).view(-1, 1, 1).expand(-1, 1, 4)
        return deltas.gather(1, index)[:, 0]


def box_pooler(roi_heads: nn.Module) -> nn.Module:
    """The module that crops the maps under the boxes.

    Args:
        roi_heads: Detectron2's StandardROIHeads or Res5ROIHeads.
    """
    return roi_heads.pooler if isinstance(roi_heads, Res5ROIHeads) else roi_heads.box_pooler


def run_roi_head(
    roi_heads: nn.Module, features: dict[str, Tensor], boxes: Sequence[Boxes]
) -> RoiOutputs:
    """Pools given boxes and runs box head and predictor: no sampling, NMS or post-processing.

    Args:
        roi_heads: Detectron2's StandardROIHeads or Res5ROIHeads.
        features: the backbone's maps by level name.
        boxes: one Boxes an image, P in all.
    """
    boxes = list(boxes)
    if isinstance(roi_heads, Res5ROIHeads):
        maps = [features[name] for name in roi_heads.in_features]
        pooled = roi_heads.res5(roi_heads.pooler(maps, boxes)).mean(dim=[2, 3])
    else:
        maps = [features[name] for name in roi_heads.box_in_features]
        pooled = roi_heads.box_head(roi_heads.box_pooler(maps, boxes))
    predictor = roi_heads.box_predictor
    scores, deltas = predictor(pooled)
    return RoiOutputs(scores, deltas, predictor.box2box_transform)

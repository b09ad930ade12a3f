"""The objects of a batch as one tensor, and what anchors that stand for them should predict."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from distill.ops.padding import pad_rows

__all__ = ["pad_ground_truth", "targets_of"]


def pad_ground_truth(instances: Sequence[Instances]) -> tuple[Tensor, Tensor, Tensor]:
    """Pads the objects of every image to the same number G, which is at least 1.

    Args:
        instances: one Instances with `gt_boxes` and `gt_classes` for each of N images.

    Returns:
        (N, G, 4) corners, zeros where padded, (N, G) classes, and (N, G) bool, False where padded.
    """
    # One more place, so that a batch without objects needs no case of its own.
    boxes, valid = pad_rows([x.gt_boxes.tensor for x in instances], extra=1)
    classes, _ = pad_rows([x.gt_classes for x in instances], extra=1)
    return boxes, classes, valid


def targets_of(
    index: Tensor,
    positive: Tensor,
    boxes: Tensor,
    classes: Tensor,
    anchors: Tensor,
    background: int,
) -> tuple[Tensor, Tensor]:
    """What every anchor should predict.

    Args:
        index: (N, R) the object of each anchor.
        positive: (N, R) bool, whether it has one.
        boxes: (N, G, 4) the objects' corners.
        classes: (N, G) their classes.
        anchors: (R, 4) corners.
        background: label of an anchor without object.

    Returns:
        (N, R) int64 labels, and (N, R, 4) boxes: the object's, or the anchor itself.
    """
    labels = classes.gather(1, index).masked_fill(~positive, background)
    matched = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    return labels, torch.where(positive[..., None], matched, anchors)

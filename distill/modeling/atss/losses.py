"""What the losses of ATSS (arXiv 1912.02424) and of GFL (arXiv 2006.04388) are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.modeling.atss.geometry import side_distances

__all__ = ["centerness_target", "class_targets", "leave_out_ignored"]

# A logit whose sigmoid, and so the focal loss of background, is 0; half precision holds it.
_CERTAIN_BACKGROUND = -1e4


def leave_out_ignored(logits: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Makes ignored anchors background that costs nothing and gives no gradient.

    Args:
        logits: (N, R, K) of losses that are 0 for certain background.
        labels: (N, R) int64, K for the background, -1 where ignored.
        num_classes: K.

    Returns:
        Both with the ignored anchors changed.
    """
    ignored = labels < 0
    logits = logits.masked_fill(ignored[..., None], _CERTAIN_BACKGROUND)
    return logits, labels.masked_fill(ignored, num_classes)


def class_targets(labels: Tensor, values: Tensor, num_classes: int) -> Tensor:
    """What the classes' own probabilities should be.

    Args:
        labels: (N, R) int64, K for the background.
        values: (N, R) what an object's class should have.
        num_classes: K.

    Returns:
        (N, R, K) float32, 0 but at the labels.
    """
    zeros = values.new_zeros((*labels.shape, num_classes + 1), dtype=torch.float32)
    return zeros.scatter(-1, labels[..., None], values.float()[..., None])[..., :-1]


def centerness_target(points: Tensor, boxes: Tensor) -> Tensor:
    """How central points are in boxes: 1 at the center, 0 on a side.

    Args:
        points: (..., 2), x and y in pixels.
        boxes: (..., 4) corners in pixels, around the points, with area.

    Returns:
        (...) geometric mean of the two ratios of the shorter to the longer distance.
    """
    left, top, right, bottom = side_distances(points, boxes).unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    along = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (across * along).sqrt()

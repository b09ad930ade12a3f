"""Where locations lie in boxes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["box_centers", "side_distances"]


def box_centers(boxes: Tensor) -> Tensor:
    """Centers (..., 2), x and y, of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """How far the sides of boxes are from points, negative where a point lies beyond one.

    Args:
        points: (..., 2), x and y in pixels.
        boxes: (..., 4) corners in pixels, of a shape that broadcasts with the points'.

    Returns:
        (..., 4) distances to the left, top, right and bottom side in pixels.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)

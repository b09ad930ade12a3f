"""What ATSS (arXiv 1912.02424) learns beside classes and boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.ops.boxes import side_distances

__all__ = ["centerness_target"]


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

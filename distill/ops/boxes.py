"""Boxes: their overlap pair by pair, as losses and their weights use it, and where points lie.

Sources: generalized IoU, arXiv 1902.09630; distance IoU, arXiv 1911.08287.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["aligned_overlap", "box_centers", "side_distances"]

# Below this area, in pixels squared, a box counts as one without area.
_MIN_AREA = 1e-7


def aligned_overlap(boxes: Tensor, others: Tensor, kind: str = "giou") -> Tensor:
    """Overlap of each box with the other box in the same place.

    With I the area of the intersection, U of the union and C of the smallest box around both:
    "iou" is I / U, "giou" I / U - (C - U) / C, and "diou" I / U - (distance of the centers)^2 /
    (diagonal of that smallest box)^2. A box without area, or one whose corners are swapped, has
    area 0: values and gradients stay finite, and two such boxes have an IoU of 0 even if equal.

    Args:
        boxes: (..., 4) corners x0, y0, x1, y1 in pixels.
        others: (..., 4), likewise, of a shape that broadcasts with the former.
        kind: "iou", "giou" or "diou".

    Returns:
        (...) float32, or float64 if `boxes` are; "iou" in [0, 1], the others in [-1, 1] for boxes
        that are not swapped.

    Raises:
        ValueError: if the kind is none of the three.
    """
    if kind not in ("iou", "giou", "diou"):
        raise ValueError(f'kind is "{kind}"; it must be "iou", "giou" or "diou"')
    # Files of boxes are compared in float64: a limit decides the same whoever reads them.
    dtype = torch.float64 if boxes.dtype == torch.float64 else torch.float32
    boxes, others = boxes.to(dtype), others.to(dtype)
    low, high = boxes.split(2, -1)
    other_low, other_high = others.split(2, -1)
    intersection = _area(torch.minimum(high, other_high) - torch.maximum(low, other_low))
    union = _area(high - low) + _area(other_high - other_low) - intersection
    iou = _ratio(intersection, union)
    if kind == "iou":
        return iou
    around = torch.maximum(high, other_high) - torch.minimum(low, other_low)
    if kind == "giou":
        area = _area(around)
        return iou - _ratio(area - union, area)
    offset = (low + high - other_low - other_high) / 2
    return iou - _ratio(offset.square().sum(-1), around.square().sum(-1))


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


def _area(size: Tensor) -> Tensor:
    """Area (...) of boxes of (..., 2) widths and heights; 0 where either is negative."""
    width, height = size.clamp(min=0).unbind(-1)
    return width * height


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """The part over the whole; the part itself where there is hardly any whole to divide by.

    A small constant in the denominator instead would give such boxes a gradient of its inverse.
    """
    return part / torch.where(whole > _MIN_AREA, whole, 1.0)

"""Masks of feature maps: the union of boxes, and the cells whose anchors fit an object."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.ops.boxes import aligned_overlap

__all__ = ["anchor_overlap_masks", "box_union_mask"]

# Overlaps that are held at once; further boxes are taken in turns.
_MAX_ELEMENTS = 2**24


def box_union_mask(boxes: Tensor, valid: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """The cells whose centers lie in a box; a box that holds none gets the cell at its own center.

    Args:
        boxes: (N, P, 4) corners in pixels.
        valid: (N, P) bool, False for boxes that don't count.
        size: height and width (H, W) of the feature map in cells.
        stride: pixels per cell.

    Returns:
        (N, 1, H, W) float32 mask of zeros and ones.
    """
    rows, row = _cells(boxes[..., 1], boxes[..., 3], size[0], stride)
    columns, column = _cells(boxes[..., 0], boxes[..., 2], size[1], stride)
    hit = (rows.any(-1) & columns.any(-1))[..., None]
    rows = torch.where(hit, rows, row) & valid[..., None]
    columns = torch.where(hit, columns, column)
    # As a product of matrices, (H, P) by (P, W), the P masks are never held.
    count = torch.bmm(rows.transpose(1, 2).float(), columns.float())
    return (count > 0).float()[:, None]


def _cells(low: Tensor, high: Tensor, cells: int, stride: float) -> tuple[Tensor, Tensor]:
    """Along one axis, (N, P, cells) bool twice: centers within each box, and its middle cell."""
    index = torch.arange(cells, device=low.device)
    centers = (index + 0.5) * stride
    inside = (centers >= low[..., None]) & (centers <= high[..., None])
    middle = ((low + high) / (2 * stride)).floor().clamp(0, cells - 1)
    return inside, index == middle[..., None]


def anchor_overlap_masks(
    anchors: list[Tensor],
    sizes: list[tuple[int, int]],
    boxes: Tensor,
    valid: Tensor,
    ratio: float = 0.5,
) -> list[Tensor]:
    """The cells near objects: those with an anchor that overlaps a box nearly as the best one does.

    Source: fine-grained feature imitation (FGFI), arXiv 1906.03609: an anchor counts if its IoU
    with a box is above `ratio` times that box's best IoU with any anchor.

    Args:
        anchors: (H W A, 4) by level, cell after cell.
        sizes: height and width (H, W) of each level in cells.
        boxes: (N, G, 4) ground-truth boxes, padded.
        valid: (N, G) bool, False where padded.
        ratio: share of a box's best IoU.

    Returns:
        (N, 1, H, W) float32 masks of zeros and ones, by level.
    """
    number, total = len(boxes), sum(len(x) for x in anchors)
    masks = [boxes.new_zeros((number, len(x)), dtype=torch.bool) for x in anchors]
    chunk = max(1, _MAX_ELEMENTS // max(1, number * total))
    for part, used in zip(boxes.split(chunk, 1), valid.split(chunk, 1), strict=True):
        if not part.shape[1]:
            continue
        overlaps = [aligned_overlap(part[:, :, None], x, "iou") for x in anchors]
        best = torch.stack([x.amax(-1) for x in overlaps]).amax(0)
        # A box that no anchor meets has no cells; a threshold above 1 admits none.
        least = torch.where(used & (best > 0), ratio * best, 2.0)[..., None]
        masks = [
            mask | (overlap > least).any(1) for mask, overlap in zip(masks, overlaps, strict=True)
        ]
    return [
        mask.view(number, *size, -1).any(-1).float()[:, None]
        for mask, size in zip(masks, sizes, strict=True)
    ]

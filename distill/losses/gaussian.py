"""Gaussian masks of boxes, which weigh the imitation of feature maps.

Source: task-adaptive regularization, arXiv 2006.13108. The formula is from a second-hand account;
taking the maximum over overlapping boxes and giving a small box one cell are choices of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gaussian_box_mask", "gaussian_box_masks"]

# Cells times boxes that are held at once; more boxes are taken in turns.
_MAX_ELEMENTS = 2**24


def gaussian_box_mask(boxes: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """The mask of one image, see `gaussian_box_masks`.

    Args:
        boxes: (B, 4) corners x0, y0, x1, y1 in pixels.
        size: height and width (H, W) of the feature map in cells.
        stride: pixels per cell.

    Returns:
        (H, W) float32 mask in [0, 1].
    """
    boxes = boxes.reshape(1, -1, 4)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    return gaussian_box_masks(boxes, valid, size, stride)[0, 0]


def gaussian_box_masks(
    boxes: Tensor, valid: Tensor, size: tuple[int, int], stride: float
) -> Tensor:
    """Masks that fall from 1 at each box's center to exp(-1) at its corners, and 0 outside.

    The Gaussian has half the box's width and height as its standard deviations and is evaluated
    at the cells' centers; where boxes overlap, the larger value counts. A box that contains no
    cell's center (one without area too) gets the cell at its own center, with value 1.

    Args:
        boxes: (N, G, 4) corners x0, y0, x1, y1 in pixels, padded to G boxes an image.
        valid: (N, G) bool, False where a box is padding or belongs on another level.
        size: height and width (H, W) of the feature map in cells.
        stride: pixels per cell.

    Returns:
        (N, 1, H, W) float32 mask in [0, 1].
    """
    height, width = size
    mask = boxes.new_zeros((len(boxes), height, width), dtype=torch.float32)
    chunk = max(1, _MAX_ELEMENTS // max(1, mask.numel()))
    for part, used in zip(boxes.float().split(chunk, 1), valid.split(chunk, 1), strict=True):
        if not part.shape[1]:
            continue
        rows, rows_hit, row = _profile(part[..., 1], part[..., 3], height, stride)
        columns, columns_hit, column = _profile(part[..., 0], part[..., 2], width, stride)
        hit = (rows_hit & columns_hit)[..., None]
        rows = torch.where(hit, rows, row) * used[..., None]
        columns = torch.where(hit, columns, column)
        product = rows[..., :, None] * columns[..., None, :]
        mask = torch.maximum(mask, product.amax(1))
    return mask[:, None]


def _profile(low: Tensor, high: Tensor, cells: int, stride: float) -> tuple[Tensor, Tensor, Tensor]:
    """One axis of the Gaussian: its values, whether it meets a cell's center, and the middle cell.

    Args:
        low: (N, G) lower edges in pixels.
        high: (N, G) upper edges in pixels.
        cells: number of cells along the axis.
        stride: pixels per cell.

    Returns:
        (N, G, cells) values, (N, G) bool, and (N, G, cells) one-hot float32.
    """
    index = torch.arange(cells, device=low.device)
    centers = (index + 0.5) * stride
    middle = ((low + high) / 2)[..., None]
    sigma = ((high - low) / 2)[..., None].clamp(min=1e-6)
    inside = (centers >= low[..., None]) & (centers <= high[..., None])
    values = torch.exp(-((centers - middle) ** 2) / (2 * sigma**2)) * inside
    nearest = (middle / stride).floor().clamp(0, cells - 1)
    return values, inside.any(-1), (index == nearest).float()

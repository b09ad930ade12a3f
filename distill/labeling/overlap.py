"""Overlaps of many boxes of many images at once."""

from __future__ import annotations

import numpy as np
import torch

from distill.ops.boxes import aligned_overlap

__all__ = ["box_iou", "overlaps", "self_overlaps"]

# Pairs that are held in memory at once.
_PAIRS = 1 << 18


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of float64 boxes with others, broadcast over the leading axes; 0 where both are empty.

    Args:
        boxes: (..., 4) corners (x0, y0, x1, y1).
        others: (..., 4) corners.
    """
    return aligned_overlap(torch.from_numpy(boxes), torch.from_numpy(others), "iou").numpy()


def overlaps(
    groups: np.ndarray,
    boxes: np.ndarray,
    other_groups: np.ndarray,
    others: np.ndarray,
    iou: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a box and another of the same group whose IoU is higher than a limit.

    Args:
        groups: (A,) number of each box' group, such as its image.
        boxes: (A, 4) corners.
        other_groups: (B,) the same of the others, ascending.
        others: (B, 4) corners.
        iou: the limit.

    Returns:
        (P,) places in `boxes`, ascending, and (P,) places in `others`, ascending for each box.
    """
    first = np.searchsorted(other_groups, groups, side="left")
    last = np.searchsorted(other_groups, groups, side="right")
    return _pairs(boxes, others, first, last, iou)


def self_overlaps(
    groups: np.ndarray, boxes: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of two boxes of the same group whose IoU is higher than a limit, each pair once.

    Args:
        groups: (A,) number of each box' group, ascending.
        boxes: (A, 4) corners.
        iou: the limit.

    Returns:
        (P,) places of the earlier boxes, ascending, and (P,) places of the later ones.
    """
    first = np.arange(1, len(boxes) + 1)
    last = np.searchsorted(groups, groups, side="right")
    return _pairs(boxes, boxes, first, last, iou)


def _pairs(
    boxes: np.ndarray, others: np.ndarray, first: np.ndarray, last: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compares each box with the others from `first` to `last`."""
    ends = np.cumsum(last - first)
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, np.int64),) * 2]
    begin = 0
    while begin < len(boxes):
        done = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, done + _PAIRS, side="right")), begin + 1)
        count = (last - first)[begin:end]
        one = np.repeat(np.arange(begin, end), count)
        place = np.arange(len(one)) - np.repeat(ends[begin:end] - count - done, count)
        other = np.repeat(first[begin:end], count) + place
        close = box_iou(boxes[one], others[other]) > iou
        found.append((one[close], other[close]))
        begin = end
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))

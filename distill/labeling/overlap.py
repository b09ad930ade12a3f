"""Overlaps of many boxes of many images at once."""

from __future__ import annotations

import numpy as np

__all__ = ["box_iou", "overlaps", "self_overlaps"]

# Pairs that are held in memory at once.
_PAIRS = 1 << 18


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of boxes with others, broadcast over the leading axes; 0 where both are empty.

    Args:
        boxes: (..., 4) corners (x0, y0, x1, y1).
        others: (..., 4) corners.
    """
    inner = _common(boxes, others, 0) * _common(boxes, others, 1)
    total = _area(boxes) + _area(others) - inner
    return np.divide(inner, total, out=np.zeros_like(inner), where=total > 0)


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


def _common(boxes: np.ndarray, others: np.ndarray, axis: int) -> np.ndarray:
    """Length that boxes share with others along x (0) or y (1)."""
    low = np.maximum(boxes[..., axis], others[..., axis])
    high = np.minimum(boxes[..., axis + 2], others[..., axis + 2])
    return np.maximum(high - low, 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


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

"""Boxes of different classes that different teachers put on the same thing."""

from __future__ import annotations

import numpy as np

from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.overlap import self_overlaps

__all__ = ["find_conflicts", "resolve_conflicts"]


def find_conflicts(
    labels: PseudoLabels, found_by: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boxes of different classes, by different teachers, that overlap.

    Where one teacher found both boxes, it tells their classes apart itself: no conflict.

    Args:
        labels: the boxes.
        found_by: (B,) int64 bits of the teachers that found each box.
        iou: a pair's IoU is higher.

    Returns:
        (P,) places of the boxes of the higher scores, from the highest down, and (P,) places of
        those of the lower ones. Ties go to the earlier box.
    """
    one, other = self_overlaps(labels.image, labels.boxes, iou)
    differ = labels.classes[one] != labels.classes[other]
    differ &= (found_by[one] & found_by[other]) == 0
    one, other = one[differ], other[differ]
    swap = labels.scores[other] > labels.scores[one]
    winner, loser = np.where(swap, other, one), np.where(swap, one, other)
    order = np.lexsort((loser, winner, -labels.scores[loser], -labels.scores[winner]))
    return winner[order], loser[order]


def resolve_conflicts(winner: np.ndarray, loser: np.ndarray, boxes: int) -> np.ndarray:
    """Drops the lower score of each conflict, unless what it lost to was dropped before.

    Args:
        winner: (P,) places as of :func:`find_conflicts`.
        loser: (P,) places.
        boxes: number of all boxes.

    Returns:
        (boxes,) bool, True for what is kept.
    """
    kept = [True] * boxes
    # In sequence, as a dropped box drops no other: conflicts are few.
    for best, other in zip(winner.tolist(), loser.tolist(), strict=True):
        if kept[best]:
            kept[other] = False
    return np.array(kept, dtype=bool)

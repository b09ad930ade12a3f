"""Precision, recall and F-beta of boxes against the threshold of their scores."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

__all__ = ["Curve", "Quality", "cuts", "score_curve"]

# One digit more than the scores in a file have, so that there is a number between any two.
_THRESHOLD_DIGITS = 6


@dataclass(frozen=True)
class Quality:
    """What the boxes above a threshold are like.

    Attributes:
        right: boxes that found an object.
        boxes: boxes, right or wrong.
        objects: all there are to be found.
        beta: how many times recall counts as much as precision in F-beta.
    """

    right: int
    boxes: int
    objects: int
    beta: float = 1.0

    @property
    def precision(self) -> float | None:
        """Share of the boxes that are right; None without boxes."""
        return self.right / self.boxes if self.boxes else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that are found; None without objects."""
        return self.right / self.objects if self.objects else None

    @property
    def f_beta(self) -> float | None:
        """(1 + beta²) · precision · recall / (beta² · precision + recall); None without objects."""
        if not self.objects:
            return None
        return (1 + self.beta**2) * self.right / (self.boxes + self.beta**2 * self.objects)

    def __add__(self, other: Quality) -> Quality:
        """That of the boxes of both together."""
        pairs = zip(astuple(self)[:3], astuple(other)[:3], strict=True)
        return Quality(*(sum(pair) for pair in pairs), self.beta)


@dataclass(frozen=True)
class Curve:
    """The quality of some boxes at each threshold that makes a difference.

    Attributes:
        scores: (n,) the scores that occur, each once, the highest first.
        thresholds: (n,) thresholds, of which each keeps the boxes up to the score of its place.
        right: (n,) right boxes among them.
        boxes: (n,) boxes among them.
        objects: all there are to be found.
        beta: how many times recall counts as much as precision in F-beta.
    """

    scores: np.ndarray
    thresholds: np.ndarray
    right: np.ndarray
    boxes: np.ndarray
    objects: int
    beta: float

    @property
    def precision(self) -> np.ndarray:
        """(n,)."""
        return self.right / self.boxes

    @property
    def recall(self) -> np.ndarray:
        """(n,); 0 where there is no object."""
        return self.right / max(self.objects, 1)

    @property
    def f_beta(self) -> np.ndarray:
        """(n,)."""
        return (1 + self.beta**2) * self.right / (self.boxes + self.beta**2 * self.objects)

    @property
    def num_right(self) -> int:
        """Right boxes at the lowest threshold."""
        return int(self.right[-1]) if len(self.right) else 0

    def best(self) -> float:
        """The threshold with the best F-beta, the highest one of equally good; needs a box."""
        return float(self.thresholds[np.argmax(self.f_beta)])

    def at(self, threshold: float) -> Quality:
        """The quality of the boxes above a threshold."""
        kept = int((self.scores > threshold).sum())
        right, boxes = (int(x[kept - 1]) if kept else 0 for x in (self.right, self.boxes))
        return Quality(right, boxes, self.objects, self.beta)


def score_curve(
    scores: np.ndarray, right: np.ndarray, objects: int, *, beta: float, floor: float
) -> Curve:
    """Makes the curve of some boxes.

    Args:
        scores: (B,) their scores, all above the floor.
        right: (B,) bool, whether each found an object.
        objects: all there are to be found.
        beta: how many times recall counts as much as precision in F-beta.
        floor: the lowest threshold.
    """
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], np.cumsum(right[order])
    # No threshold parts boxes of equal scores.
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    return Curve(scores[last], cuts(scores[last], floor), right[last], last + 1, objects, beta)


def cuts(scores: np.ndarray, floor: float) -> np.ndarray:
    """Thresholds (n,) below each of n scores and not below the next, in the middle of the two.

    Args:
        scores: (n,), descending, no two of them equal, all above the floor.
        floor: stands for the score after the last.
    """
    following = np.append(scores[1:], floor)
    middle = np.round((scores + following) / 2, _THRESHOLD_DIGITS)
    return np.where((following <= middle) & (middle < scores), middle, following)

"""Boxes that teachers found in images, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

__all__ = ["PseudoLabels"]


@dataclass(frozen=True)
class PseudoLabels:
    """B boxes in the images of a dataset.

    Attributes:
        image: (B,) int64 number of each box' image in the dataset, ascending.
        boxes: (B, 4) float64 corners in pixels of the image as it is on disk.
        scores: (B,) float64 in [0, 1].
        classes: (B,) int64 classes.
        teacher: (B,) int64 number of the teacher that found it; None where there is but one.
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    teacher: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image)

    def select(self, index: np.ndarray) -> PseudoLabels:
        """Some of the boxes, by an index or a (B,) bool mask."""
        teacher = None if self.teacher is None else self.teacher[index]
        columns = (self.image, self.boxes, self.scores, self.classes)
        return PseudoLabels(*(column[index] for column in columns), teacher)

    def above(self, threshold: float | np.ndarray) -> PseudoLabels:
        """The boxes of higher scores than a threshold, or than their class' of (K,) thresholds."""
        limits = np.asarray(threshold)
        return self.select(self.scores > (limits[self.classes] if limits.ndim else limits))

    def counts(self, num_images: int) -> np.ndarray:
        """How many boxes each image has, (num_images,)."""
        return np.bincount(self.image, minlength=num_images)

    @classmethod
    def concatenate(cls, parts: Sequence[PseudoLabels]) -> PseudoLabels:
        """The boxes of several, all with teachers, one part after the other: to be sorted."""
        names = (field.name for field in fields(cls))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

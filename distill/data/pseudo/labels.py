"""Boxes that teachers found in images, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

__all__ = ["HUMAN", "PIXEL_DIGITS", "SCORE_DIGITS", "PseudoLabels", "class_places"]

# Stands for the teacher of a box that is a true label.
HUMAN = "labels"
# What files keep of corners and scores. A hundredth of a pixel: they are a third of the size.
PIXEL_DIGITS = 2
SCORE_DIGITS = 5


@dataclass(frozen=True)
class PseudoLabels:
    """B boxes in the images of a dataset.

    Attributes:
        image: (B,) int64 number of each box' image in the dataset, ascending.
        boxes: (B, 4) float64 corners in pixels of the image as it is on disk.
        scores: (B,) float64 in [0, 1].
        classes: (B,) int64 classes.
        teacher: (B,) int64 number of the teacher that found it; given None, the first.
        entry: (B,) int64 place of the annotation that it was read from among those of its
            `PseudoFile`; given None, -1 for none.
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    teacher: np.ndarray | None = None
    entry: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.teacher is None:
            object.__setattr__(self, "teacher", np.zeros(len(self.image), np.int64))
        if self.entry is None:
            object.__setattr__(self, "entry", np.full(len(self.image), -1, np.int64))

    def __len__(self) -> int:
        return len(self.image)

    def select(self, index: np.ndarray) -> PseudoLabels:
        """Some of the boxes, by an index or a (B,) bool mask."""
        return PseudoLabels(*(getattr(self, field.name)[index] for field in fields(self)))

    def renumbered(self, images: np.ndarray, classes: np.ndarray) -> PseudoLabels:
        """The boxes by other numbers of images and classes, sorted by image.

        Args:
            images: (N,) the new number of each image; -1 leaves its boxes out.
            classes: (K,) the new number of each class, likewise.
        """
        moved = replace(self, image=images[self.image], classes=classes[self.classes])
        kept = np.flatnonzero((moved.image >= 0) & (moved.classes >= 0))
        return moved.select(kept[np.argsort(moved.image[kept], kind="stable")])

    def above(self, threshold: float | np.ndarray) -> PseudoLabels:
        """The boxes of higher scores than a threshold, or than their class' of (K,) thresholds."""
        limits = np.asarray(threshold)
        return self.select(self.scores > (limits[self.classes] if limits.ndim else limits))

    def counts(self, num_images: int) -> np.ndarray:
        """How many boxes each image has, (num_images,)."""
        return np.bincount(self.image, minlength=num_images)

    def class_counts(self, num_classes: int) -> np.ndarray:
        """How many boxes each class has, (num_classes,)."""
        return np.bincount(self.classes, minlength=num_classes)

    @classmethod
    def none(cls) -> PseudoLabels:
        """No box at all."""
        numbers = np.zeros(0, np.int64)
        return cls(numbers, np.zeros((0, 4)), np.zeros(0), numbers)

    @classmethod
    def concatenate(cls, parts: Sequence[PseudoLabels]) -> PseudoLabels:
        """The boxes of several, one part after the other: to be sorted."""
        names = (field.name for field in fields(cls))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def class_places(names: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """The place (K,) int64 of each of K classes among others, -1 for those that are not there."""
    places = {name: number for number, name in enumerate(others)}
    return np.array([places.get(name, -1) for name in names], dtype=np.int64)

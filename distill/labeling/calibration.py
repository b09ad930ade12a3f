"""Score thresholds by class, from boxes and labels of the same images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.matching import compare
from distill.labeling.score_curve import Curve, Quality, cuts, score_curve
from distill.utils.wording import some_of

__all__ = ["Calibration", "CalibratedClass", "calibrate", "check_calibration"]


@dataclass(frozen=True)
class CalibratedClass:
    """A class' threshold.

    Attributes:
        name: its name.
        threshold: boxes above are kept.
        reason: where the threshold comes from, in a few words.
        curve: the quality of its boxes at every threshold.
        kept: boxes above the threshold in the whole file.
    """

    name: str
    threshold: float
    reason: str
    curve: Curve
    kept: int

    @property
    def quality(self) -> Quality:
        """That of the boxes above the threshold."""
        return self.curve.at(self.threshold)


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and what they do.

    Attributes:
        classes: those that have labels, in the order of the boxes' file.
        unlabeled: names of the others, which take the default threshold.
        default: the best threshold for all classes together.
        pooled: the quality at every threshold that is the same for all classes.
        num_images: images in both files.
        floor: the lowest threshold.
    """

    classes: tuple[CalibratedClass, ...]
    unlabeled: tuple[str, ...]
    default: float
    pooled: Curve
    num_images: int
    floor: float

    @property
    def thresholds(self) -> Thresholds:
        """As a file has them."""
        return Thresholds(self.default, {x.name: x.threshold for x in self.classes})

    @property
    def total(self) -> Quality:
        """The quality of all classes' boxes, each above the threshold of its class."""
        return sum((x.quality for x in self.classes), Quality(0, 0, 0, self.pooled.beta))


def calibrate(
    pseudo: PseudoFile,
    truth: PseudoFile,
    *,
    beta: float = 1.0,
    iou: float = 0.5,
    min_boxes: int = 10,
    min_kept: int = 10,
    floor: float | None = None,
) -> Calibration:
    """Finds the score threshold of each class that gives the best F-beta.

    It lies in the middle between two scores; of equally good ones it is the highest. A class of
    few right boxes takes the threshold that is best for all classes together. A class that this
    leaves with too few boxes in the whole file has its threshold lowered until it has enough, or
    the floor is reached. Classes are matched by name, images by their files; only images in both
    files are compared.

    Args:
        pseudo: boxes down to low scores.
        truth: labels of some or all of the images; a box in one of their crowds is neither right
            nor wrong.
        beta: how many times recall counts as much as precision.
        iou: lowest IoU of a right box.
        min_boxes: right boxes, at any score, that a class needs for a threshold of its own.
        min_kept: boxes that a class is to keep in the whole file.
        floor: the lowest threshold; by default the file's score_floor.

    Raises:
        ValueError: one sentence, if an option is out of range or there is nothing to compare.
    """
    floor = float(pseudo.info.get("score_floor") or 0.0) if floor is None else floor
    check_calibration(beta, iou, floor, min_boxes, min_kept)
    names = _shared_classes(pseudo, truth)
    compared = _compare(pseudo, truth, iou, floor)
    pooled = compared.curve(None, beta, floor)
    default = pooled.best()
    classes = []
    for name in names:
        number = pseudo.class_names.index(name)
        curve = compared.curve(number, beta, floor)
        if curve.num_right < max(min_boxes, 1):
            threshold, reason = default, "best of all classes, as it is rare"
        else:
            threshold, reason = curve.best(), "its best"
        scores = pseudo.labels.scores[pseudo.labels.classes == number]
        lowered = _lowered(scores, threshold, min_kept, floor)
        if lowered < threshold:
            threshold, reason = lowered, "lowered to keep boxes"
        kept = int((scores > threshold).sum())
        classes.append(CalibratedClass(name, threshold, reason, curve, kept))
    unlabeled = tuple(name for name in pseudo.class_names if name not in names)
    return Calibration(tuple(classes), unlabeled, default, pooled, compared.num_images, floor)


@dataclass(frozen=True)
class _JudgedBoxes:
    """Boxes of which it is known whether they are right, and the number of objects by class."""

    scores: np.ndarray
    classes: np.ndarray
    right: np.ndarray
    objects: np.ndarray
    num_images: int

    def curve(self, category: int | None, beta: float, floor: float) -> Curve:
        """That of a class, or of all together."""
        own = np.full(len(self.scores), True) if category is None else self.classes == category
        objects = int(self.objects.sum() if category is None else self.objects[category])
        return score_curve(self.scores[own], self.right[own], objects, beta=beta, floor=floor)


def _compare(pseudo: PseudoFile, truth: PseudoFile, iou: float, floor: float) -> _JudgedBoxes:
    found = replace(pseudo, labels=pseudo.labels.above(floor))
    result = compare(found, truth, iou=iou)
    if not result.labeled.any():
        raise ValueError("No image is in both files: give labels of the images that have boxes.")
    if not len(result.objects):
        raise ValueError(
            "The labels have no box in the images and of the classes that the pseudo labels have: "
            "give others as --labels."
        )
    if not result.right.any():
        raise ValueError(
            f"No pseudo label above {floor:g} overlaps an object of its class with an IoU of "
            f"{iou:g}: check that boxes and labels are of the same images."
        )
    labels, labeled = found.labels, np.isin(pseudo.class_names, truth.class_names)
    known = result.counted & result.labeled[labels.image] & labeled[labels.classes]
    columns = (x[known] for x in (labels.scores, labels.classes, result.right))
    per_class = result.objects.class_counts(len(labeled))
    return _JudgedBoxes(*columns, per_class, int(result.labeled.sum()))


def _lowered(scores: np.ndarray, threshold: float, min_kept: int, floor: float) -> float:
    """The threshold, or a lower one above which there are enough scores, if there are at all."""
    scores = np.sort(scores[scores > floor])[::-1]
    enough = min(min_kept, len(scores))
    if (scores > threshold).sum() >= enough:
        return threshold
    distinct = np.unique(scores)[::-1]
    return float(cuts(distinct, floor)[distinct == scores[enough - 1]][0])


def check_calibration(
    beta: float, iou: float, floor: float | None, min_boxes: int, min_kept: int
) -> None:
    """Verifies the options of :func:`calibrate`.

    Raises:
        ValueError: one sentence that names the option that is out of range.
    """
    if not 0 < beta < np.inf:
        raise ValueError(f"--beta is {beta:g}: it must be above 0.")
    if not 0 < iou <= 1:
        raise ValueError(f"--iou is {iou:g}: it must be above 0 and at most 1.")
    if floor is not None and not 0 <= floor < 1:
        raise ValueError(f"--floor is {floor:g}: it must be at least 0 and below 1.")
    for option, value in (("--min-boxes", min_boxes), ("--min-kept", min_kept)):
        if value < 0:
            raise ValueError(f"{option} is {value}: it must not be negative.")


def _shared_classes(pseudo: PseudoFile, truth: PseudoFile) -> list[str]:
    if not len(pseudo.labels):
        raise ValueError("There are no pseudo labels: make them with a lower score threshold.")
    if not len(truth.labels):
        raise ValueError("The labels have no box: give a labeled dataset as --labels.")
    names = [name for name in pseudo.class_names if name in truth.class_names]
    if not names:
        raise ValueError(
            f"The pseudo labels' classes ({some_of(pseudo.class_names, 5)}) and the labels' "
            f"({some_of(truth.class_names, 5)}) have no name in common: rename those of one."
        )
    return names

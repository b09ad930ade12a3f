"""The boxes of several files, by one numbering of images, classes and teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.fusion import by_class
from distill.labeling.provenance import TeacherBits, digest, teacher_names
from distill.labeling.same_images import align_images

__all__ = ["TeacherInput", "applied_thresholds", "class_limits", "in_fixed_order", "pool"]


@dataclass(frozen=True)
class TeacherInput:
    """A file to merge.

    Attributes:
        name: what to call it in messages.
        file: its content.
        thresholds: its boxes of lower scores are left out; None for the score threshold.
    """

    name: str
    file: PseudoFile
    thresholds: Thresholds | None = None


def in_fixed_order(inputs: Sequence[TeacherInput]) -> list[TeacherInput]:
    """Sorts inputs by what they are: by their teachers' names, then by what they hold."""

    def key(x: TeacherInput) -> tuple:
        limits = x.thresholds and (x.thresholds.default, sorted(x.thresholds.classes.items()))
        return teacher_names(x.file), digest(x.file), repr(limits)

    return sorted(inputs, key=key)


def pool(
    inputs: Sequence[TeacherInput],
    base: TeacherInput,
    places: Sequence[Sequence[int]],
    bits: TeacherBits,
    score_threshold: float,
) -> tuple[PseudoLabels, np.ndarray]:
    """Puts the boxes that are believed together.

    Args:
        inputs: the files.
        base: that whose numbers of images count.
        places: for each file the place of each of its classes in the union; -1 for none.
        bits: how to write sets of teachers.
        score_threshold: of inputs without thresholds.

    Returns:
        The boxes in the order of :func:`by_class`, their `teacher` the number of the input, and
        the set (B,) of the teachers of each.

    Raises:
        ValueError: one sentence, if the images differ, or thresholds are those of another input.
    """
    parts, sets = [], []
    for number, (x, place) in enumerate(zip(inputs, places, strict=True)):
        # Places in the file, for a moment, in place of teachers. What is fused has no entry.
        labels = replace(x.file.labels, teacher=np.arange(len(x.file.labels)), entry=None)
        labels = labels.above(class_limits(x, score_threshold))
        labels = labels.renumbered(_image_numbers(base, x), np.array(place, dtype=np.int64))
        sets.append(bits.of(x.file)[labels.teacher])
        parts.append(replace(labels, teacher=np.full(len(labels), number)))
    together = PseudoLabels.concatenate(parts)
    order = by_class(together)
    return together.select(order), np.concatenate(sets)[order]


def class_limits(x: TeacherInput, score_threshold: float) -> np.ndarray:
    """The score (K,) above which boxes of each class of an input are believed.

    Args:
        x: the input.
        score_threshold: where it has no thresholds.

    Raises:
        ValueError: one sentence, if its thresholds are not of its classes.
    """
    if x.thresholds is None:
        return np.full(len(x.file.class_names), score_threshold)
    if x.thresholds.classes and not set(x.thresholds.classes) & set(x.file.class_names):
        raise ValueError(
            f"The thresholds for {x.name} are of {', '.join(sorted(x.thresholds.classes))}, none "
            "of which is a class of it: give --thresholds in the sequence of the inputs."
        )
    return x.thresholds.of(x.file.class_names)


def applied_thresholds(inputs: Sequence[TeacherInput], score_threshold: float) -> dict[str, Any]:
    """The header's entry "thresholds": what was applied, by teacher.

    Where nothing was given now, what the input's own header tells stands.

    Args:
        inputs: the files.
        score_threshold: of inputs without thresholds.
    """
    applied: dict[str, Any] = {}
    for x in inputs:
        before = x.file.info.get("thresholds") or {}
        own = (x.thresholds or Thresholds(score_threshold)).as_dict()
        for name in teacher_names(x.file):
            applied[name] = own if x.thresholds else before.get(name) or own
    return dict(sorted(applied.items()))


def _image_numbers(base: TeacherInput, x: TeacherInput) -> np.ndarray:
    """The number that each of an input's images has in the base."""
    found = align_images(base.file, x.file, (base.name, x.name))
    if len(x.file.images) != len(found) or (found < 0).any():
        raise ValueError(
            f"{base.name} is of {len(found)} images and {x.name} of {len(x.file.images)}, of which "
            f"{int((found >= 0).sum())} are the same: let all teachers label the same images."
        )
    numbers = np.zeros(len(found), dtype=np.int64)
    numbers[found] = np.arange(len(found))
    return numbers

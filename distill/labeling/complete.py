"""Fills labels that cover only some classes with pseudo labels of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN, PseudoLabels
from distill.labeling.aliases import Aliases, class_order, union_classes
from distill.labeling.overlap import overlaps
from distill.labeling.pool import TeacherInput, applied_thresholds, class_limits
from distill.labeling.provenance import united_header, with_header
from distill.labeling.same_images import align_images

__all__ = ["Completed", "complete"]

# Of pseudo labels without thresholds.
_THRESHOLD = 0.5


@dataclass(frozen=True)
class Completed:
    """What :func:`complete` returns.

    Attributes:
        file: labels and pseudo labels; each image's labels come first.
        classes: a dict a class: "class", "labels", "pseudo" (boxes above the threshold), "found"
            (dropped: on a label of the class), "beyond" (dropped: of a class that is labeled, but
            on no label of it), "conflict" (dropped: on a label of another class) and "added".
    """

    file: PseudoFile
    classes: list[dict[str, Any]]


def complete(
    labels: PseudoFile,
    pseudo: TeacherInput,
    *,
    name: str = "labels",
    iou: float = 0.5,
    conflict_iou: float = 0.7,
    aliases: Aliases | None = None,
    classes: Sequence[str] | None = None,
) -> Completed:
    """Adds pseudo labels of the classes that the labels lack.

    Labels are complete in their own classes and right: pseudo labels of these classes are dropped,
    and so are those of other classes that lie on a label.

    Args:
        labels: the labels; theirs are the images of the result.
        pseudo: pseudo labels of these images, and maybe of more; above 0.5 without thresholds.
        name: what to call the labels in messages.
        iou: a pseudo label whose IoU with a label of its class is higher counts as found.
        conflict_iou: one whose IoU with a label of another class is higher is dropped.
        aliases: which class names mean the same.
        classes: names, or a dataset, that give the classes of the result and their order; boxes of
            others are left out.

    Raises:
        FileNotFoundError: if the dataset of `classes` is missing.
        ValueError: one sentence, if images, aliases, thresholds or classes don't go together.
    """
    aliases, limits = aliases or Aliases(), class_limits(pseudo, _THRESHOLD)
    lists = [labels.class_names, pseudo.file.class_names]
    order = class_order(classes, [*lists[0], *lists[1]], aliases)
    names, places = union_classes(lists, aliases, order)
    found = align_images(labels, pseudo.file, (name, pseudo.name))
    if (found < 0).any():
        raise ValueError(
            f"{pseudo.name} lacks {int((found < 0).sum())} of the {len(found)} images of {name}, "
            f"such as {labels.images[int(found.argmin())]['file_name']}: generate it for these."
        )
    known = labels.labels.renumbered(np.arange(len(labels.images)), np.array(places[0], np.int64))
    number = np.full(len(pseudo.file.images), -1)
    number[found] = np.arange(len(found))
    guessed = pseudo.file.labels.above(limits).renumbered(number, np.array(places[1], np.int64))
    on_own, on_other = _on_labels(guessed, known, iou, conflict_iou)
    labeled = np.isin(guessed.classes, places[0])
    reasons = {
        "pseudo": np.ones(len(guessed), dtype=bool),
        "found": labeled & on_own,
        "beyond": labeled & ~on_own,
        "conflict": ~labeled & on_other,
        "added": ~labeled & ~on_other,
    }
    boxes = {"labels": known, **{key: guessed.select(mask) for key, mask in reasons.items()}}
    count = {key: x.class_counts(len(names)).tolist() for key, x in boxes.items()}
    count = {"class": names, **count}
    rows = [dict(zip(count, row, strict=True)) for row in zip(*count.values(), strict=True)]
    added = replace(boxes["added"], entry=None)
    info = _header(labels, pseudo, name, limits)
    info["counts"].update(boxes=len(known) + len(added), labels=len(known), added=len(added))
    info["complete"] = {"iou": iou, "conflict_iou": conflict_iou, "classes": rows}
    images = labels.images
    if not labels.info["image_root"]:
        paths = [pseudo.file.images[place]["file_name"] for place in found.tolist()]
        images = [{**x, "file_name": path} for x, path in zip(images, paths, strict=True)]
    together = _together(info, images, names, (labels, known), (pseudo.file, added))
    crowds = labels.crowds.renumbered(np.arange(len(images)), np.array(places[0], np.int64))
    place_of = dict(zip(labels.class_names, places[0], strict=True))
    renamed = [
        {**category, "name": names[place]}
        for category in labels.categories
        if (place := place_of.get(category["name"], -1)) >= 0
    ]
    completed = replace(
        together,
        crowds=crowds,
        categories=renamed,
        annotations=labels.annotations,
        rest=labels.rest,
    )
    return Completed(completed, rows)


def _on_labels(
    guessed: PseudoLabels, known: PseudoLabels, iou: float, conflict_iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which pseudo labels lie on a label of their class, and which on one of another."""
    masks = np.zeros((2, len(guessed)), dtype=bool)
    for mask, same, limit in zip(masks, (True, False), (iou, conflict_iou), strict=True):
        box, label = overlaps(guessed.image, guessed.boxes, known.image, known.boxes, limit)
        mask[box[(guessed.classes[box] == known.classes[label]) == same]] = True
    return masks[0], masks[1]


def _header(
    labels: PseudoFile, pseudo: TeacherInput, name: str, limits: np.ndarray
) -> dict[str, Any]:
    before = labels.info.get("thresholds") or {}
    place = labels if labels.info["image_root"] else pseudo.file
    header = united_header(
        "Labels, completed with pseudo labels",
        [labels, pseudo.file],
        [name, pseudo.name],
        place=replace(place, images=labels.images),
        dataset=place.info["dataset"],
        score_floor=float(min(limits, default=_THRESHOLD)),
        thresholds={**before, **applied_thresholds([pseudo], _THRESHOLD)},
    )
    return with_header(labels, header)


def _together(
    info: dict[str, Any],
    images: list[dict[str, Any]],
    names: tuple[str, ...],
    *parts: tuple[PseudoFile, PseudoLabels],
) -> PseudoFile:
    """One file with the boxes of several, in each image in the sequence of the parts."""
    teachers = tuple(sorted({name for file, _ in parts for name in file.teachers} or {HUMAN}))
    columns = []
    for file, labels in parts:
        own = np.array([teachers.index(name) for name in file.teachers], dtype=np.int64)
        columns.append(replace(labels, teacher=own[labels.teacher]))
    together = PseudoLabels.concatenate(columns)
    order = np.argsort(together.image, kind="stable")
    return PseudoFile(info, images, names, teachers, together.select(order))

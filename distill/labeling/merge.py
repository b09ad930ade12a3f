"""Merges what several teachers found in the same images, whatever their sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.aliases import Aliases, class_order, union_classes
from distill.labeling.conflicts import find_conflicts, resolve_conflicts
from distill.labeling.fusion import Fused, nms, soft_nms, weighted_boxes
from distill.labeling.pool import TeacherInput, applied_thresholds, in_fixed_order, pool
from distill.labeling.provenance import TeacherBits, one_dataset, teacher_names, united_header

__all__ = ["METHODS", "MergeSettings", "Merged", "merge"]

# The methods and from which IoU boxes are the same. NMS at that of the teachers themselves: what
# one teacher tells apart is below it, so that what is above is one thing found twice. For box
# fusion the paper's. Soft-NMS has no such limit.
METHODS = {"nms": 0.5, "wbf": 0.55, "soft-nms": None}


@dataclass(frozen=True)
class MergeSettings:
    """How :func:`merge` treats boxes that overlap.

    Attributes:
        method: nms, wbf or soft-nms, within each class.
        iou: from which IoU boxes of a class are the same; None for that of METHODS.
        score_threshold: boxes of lower scores are left out, before where an input has no
            thresholds, and after.
        conflict_iou: from which IoU boxes of different classes by different teachers conflict.
        keep_conflicts: keep both boxes of a conflict; else that of the higher score.
    """

    method: str = "nms"
    iou: float | None = None
    score_threshold: float = 0.05
    conflict_iou: float = 0.7
    keep_conflicts: bool = False


@dataclass(frozen=True)
class Merged:
    """What :func:`merge` returns.

    Attributes:
        file: the merged labels.
        inputs: a dict an input: "teacher", "boxes" in it, "believed" (above the thresholds, of
            classes of the union), "kept" (in the end, alone or with others) and "shared" (of
            these, with others).
        teachers_of: by each class of the union the teachers that know it.
        conflicts: a dict a pair of classes: "class" (of the higher scores), "other" and "count".
    """

    file: PseudoFile
    inputs: list[dict[str, Any]]
    teachers_of: dict[str, list[str]]
    conflicts: list[dict[str, Any]]


def merge(
    inputs: Sequence[TeacherInput],
    settings: MergeSettings | None = None,
    *,
    aliases: Aliases | None = None,
    classes: Sequence[str] | None = None,
) -> Merged:
    """Merges files of the same images into one with the union of their classes.

    A box' teacher is all teachers that found it, joined by "+". Boxes of different classes on the
    same thing are a conflict, but not if one teacher found both.

    Args:
        inputs: one file or more; their sequence doesn't matter.
        settings: the defaults if None.
        aliases: which class names mean the same.
        classes: names, or a dataset, that give the classes of the union and their order; boxes of
            others are left out.

    Raises:
        FileNotFoundError: if the dataset of `classes` is missing.
        ValueError: one sentence, if inputs, aliases or classes don't go together.
    """
    settings = settings or MergeSettings()
    if settings.iou is None:
        settings = dataclasses.replace(settings, iou=METHODS[settings.method])
    inputs, aliases = in_fixed_order(inputs), aliases or Aliases()
    lists = [x.file.class_names for x in inputs]
    order = class_order(classes, [name for names in lists for name in names], aliases)
    names, places = union_classes(lists, aliases, order)
    base = next((x for x in inputs if x.file.info["image_root"]), inputs[0])
    info = _header(inputs, base, settings)
    bits = TeacherBits([x.file for x in inputs])
    together, sets = pool(inputs, base, places, bits, settings.score_threshold)
    fused = _fuse(together, settings, places, len(names))
    fused, conflicts = _settle(fused, sets, names, settings)
    rows = _rows(inputs, together, fused)
    info["merge"] = {**dataclasses.asdict(settings), "inputs": rows, "conflicts": conflicts}
    info["counts"]["boxes"] = len(fused.labels)
    teachers, teacher = bits.decode(fused.united(sets))
    labels = dataclasses.replace(fused.labels, teacher=teacher)
    file = PseudoFile(info, base.file.images, names, teachers, labels)
    known = {
        name: [row["teacher"] for row, place in zip(rows, places, strict=True) if number in place]
        for number, name in enumerate(names)
    }
    return Merged(file, rows, known, conflicts)


def _header(
    inputs: Sequence[TeacherInput], base: TeacherInput, settings: MergeSettings
) -> dict[str, Any]:
    files = [x.file for x in inputs]
    return united_header(
        "Pseudo labels of several teachers, merged",
        files,
        [x.name for x in inputs],
        place=base.file,
        dataset=one_dataset(files),
        score_floor=settings.score_threshold,
        thresholds=applied_thresholds(inputs, settings.score_threshold),
    )


def _fuse(
    labels: PseudoLabels, settings: MergeSettings, places: Sequence[Sequence[int]], classes: int
) -> Fused:
    if settings.method == "nms":
        fused = nms(labels, settings.iou)
    elif settings.method == "wbf":
        know = [np.isin(np.arange(classes), place) for place in places]
        fused = weighted_boxes(labels, settings.iou, np.sum(know, axis=0))
    else:
        fused = soft_nms(labels)
    return fused.select(np.flatnonzero(fused.labels.scores > settings.score_threshold))


def _settle(
    fused: Fused, sets: np.ndarray, names: Sequence[str], settings: MergeSettings
) -> tuple[Fused, list[dict[str, Any]]]:
    """Resolves and counts conflicts, and puts each image's surest boxes first."""
    labels = fused.labels
    winner, loser = find_conflicts(labels, fused.united(sets), settings.conflict_iou)
    kept = np.ones(len(labels), dtype=bool)
    if not settings.keep_conflicts:
        kept = resolve_conflicts(winner, loser, len(labels))
    pairs = np.stack([labels.classes[winner], labels.classes[loser]], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    conflicts = [
        {"class": names[best], "other": names[other], "count": count}
        for (best, other), count in zip(found.tolist(), counts.tolist(), strict=True)
    ]
    rank = np.lexsort((-labels.scores, labels.image))
    return fused.select(rank[kept[rank]]), conflicts


def _rows(
    inputs: Sequence[TeacherInput], together: PseudoLabels, fused: Fused
) -> list[dict[str, Any]]:
    voters = np.zeros((len(fused.labels), len(inputs)), dtype=bool)
    inside = fused.member >= 0
    voters[fused.member[inside], together.teacher[inside]] = True
    shared = voters.sum(axis=1) > 1
    return [
        {
            "teacher": "+".join(teacher_names(x.file)),
            "boxes": len(x.file.labels),
            "believed": int((together.teacher == number).sum()),
            "kept": int(voters[:, number].sum()),
            "shared": int((voters[:, number] & shared).sum()),
        }
        for number, x in enumerate(inputs)
    ]

"""What a page of labeling.view says about all boxes of a file, not only those it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels

__all__ = ["summary"]

_BINS = 20


def summary(
    pseudo: PseudoFile, labels: PseudoFile | None, classes: list[str], threshold: float
) -> dict[str, Any]:
    """Counts of a whole file.

    Args:
        pseudo: the file.
        labels: true labels, or None.
        classes: names of the classes of both.
        threshold: the score above which boxes count as sure.

    Returns:
        header: pairs of a name and a text, from the file's own header.
        facts: pairs of a name and a number.
        bins: by score, from 0 to 1, (how many boxes, share of the fullest bin).
        rows: of each class that occurs its name and the numbers of boxes, sure boxes and labels.
    """
    found, sure = pseudo.labels, pseudo.labels.above(threshold)
    total = len(pseudo.images)
    facts = [
        ("images", total),
        ("images without a sure box", int((sure.counts(total) == 0).sum())),
        ("boxes", len(found)),
        ("sure boxes", len(sure)),
    ]
    if len(pseudo.teachers) > 1:
        of_teacher = np.bincount(found.teacher, minlength=len(pseudo.teachers)).tolist()
        pairs = zip(pseudo.teachers, of_teacher, strict=True)
        facts += [(f"boxes of {name}", number) for name, number in pairs]
    true_counts = _by_name(labels, labels.labels) if labels else {}
    if labels:
        facts.append(("labels", len(labels.labels)))
    counts = [_by_name(pseudo, x) for x in (found, sure)]
    rows = [(name, *(x.get(name, 0) for x in (*counts, true_counts))) for name in classes]
    bins = np.histogram(found.scores, bins=_BINS, range=(0, 1))[0]
    return {
        "header": list(_flat(pseudo.info)),
        "facts": facts,
        "bins": [(number, number / max(bins.max(), 1)) for number in bins.tolist()],
        "rows": [row for row in rows if any(row[1:])],
    }


def _by_name(source: PseudoFile, boxes: PseudoLabels) -> dict[str, int]:
    counts = boxes.class_counts(len(source.class_names)).tolist()
    return dict(zip(source.class_names, counts, strict=True))


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """The leaves of nested dicts."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, (*path, str(key)))
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield " · ".join(path), text

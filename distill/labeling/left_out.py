"""What files of labels have besides boxes, and a file that is made of their boxes does not."""

from __future__ import annotations

from collections import Counter

from distill.data.pseudo.file import PseudoFile

__all__ = ["has_any", "left_out"]

# What every box has.
_OF_BOXES = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "score", "teacher"}


def left_out(*files: PseudoFile) -> str:
    """A sentence on what is lost of files whose boxes alone are taken; "" if nothing is."""
    counts: Counter[str] = Counter()
    for file in files:
        counts["crowds"] += len(file.crowds)
        counts.update(file.rest.keys())
        for annotation in file.annotations:
            counts.update(key for key in annotation.keys() - _OF_BOXES if annotation[key])
    parts = [f"{name} ({number})" for name, number in sorted(counts.items()) if number]
    return f"Left out, as boxes alone are taken: {', '.join(parts)}." if parts else ""


def has_any(file: PseudoFile, key: str) -> bool:
    """Whether a box of a file has more than that, masks for example, under a key."""
    return any(annotation.get(key) for annotation in file.annotations)

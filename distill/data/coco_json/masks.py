"""Masks of objects in the form that Detectron2's mapper takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as rle

from distill.data.coco_json.file import Entry
from distill.data.coco_json.values import NUMBERS, as_number, as_whole_number

__all__ = ["is_sound_rle", "usable_mask"]

# Numbers of the smallest polygon, a triangle.
_TRIANGLE = 6
# Characters of the longest run that a mask can have: each has five bits.
_RUN_CHARACTERS = 7


def usable_mask(segmentation: Any, image: Entry) -> list[list[float]] | dict[str, Any] | None:
    """A mask as polygons or compressed RLE; None if it is none.

    Args:
        segmentation: polygons, or RLE with counts as a list or compressed.
        image: the image that it is in.
    """
    try:
        if isinstance(segmentation, dict):
            return _usable_rle(segmentation, [image["height"], image["width"]])
        first = segmentation[0]
        # One polygon without the list around it.
        polygons = segmentation if isinstance(first, list) else [segmentation]
        side = max(image["width"], image["height"])
        return [x for x in (_polygon(points, side) for points in polygons) if x] or None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError):
        return None


def _polygon(points: list[Any], side: int) -> list[float] | None:
    if points and isinstance(points[0], list):
        points = [value for point in points for value in point]
    if len(points) % 2 or len(points) < _TRIANGLE:
        return None
    # Whatever is infinite or no number makes the sum so.
    if not (NUMBERS.issuperset(map(type, points)) and sum(points) * 0.0 == 0.0):
        points = [as_number(value) for value in points]
    # pycocotools goes along the edges in steps of a fifth of a pixel, however far they lead.
    return points if -side <= min(points) and max(points) <= 2 * side else None


def _usable_rle(mask: dict[str, Any], size: list[int]) -> dict[str, Any] | None:
    counts = mask["counts"]
    if [as_whole_number(side) for side in mask["size"]] != size:
        return None
    if isinstance(counts, str):
        return {**mask, "size": size}
    counts = [as_whole_number(count) for count in counts]
    if min(counts) < 0 or sum(counts) != size[0] * size[1]:
        return None
    return rle.frPyObjects({"size": size, "counts": counts}, *size)


def is_sound_rle(mask: dict[str, Any]) -> bool:
    """Whether the runs of a compressed RLE add up to its size: pycocotools may hang on others.

    Args:
        mask: "counts" as text or bytes, "size" as height and width.
    """
    counts = mask["counts"]
    try:
        codes = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, "u1")
    except UnicodeEncodeError:
        return False
    codes = codes.astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if not len(ends) or ends[-1] != len(codes) - 1 or codes.min() < 0 or codes.max() > 63:
        return False
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _RUN_CHARACTERS:
        return False
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 0x1F) << shifts, starts)
    values -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)
    # From the fourth on, a run is written as its difference to the one before the last.
    runs = np.concatenate([values[:1], np.cumsum(values[1::2]), np.cumsum(values[2::2])])
    return bool(runs.min() >= 0 and runs.sum() == mask["size"][0] * mask["size"][1])

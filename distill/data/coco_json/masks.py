"""Masks of objects in the form that Detectron2's mapper takes."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as rle

from distill.data.coco_json.file import Entry
from distill.data.coco_json.values import as_number, as_whole_number

__all__ = ["usable_mask"]

# Numbers of the smallest polygon, a triangle.
_TRIANGLE = 6


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
        return [x for x in map(_polygon, polygons) if x] or None
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def _polygon(points: list[Any]) -> list[float] | None:
    if points and isinstance(points[0], list):
        points = [value for point in points for value in point]
    if len(points) % 2 or len(points) < _TRIANGLE:
        return None
    if type(points[0]) in (float, int):
        return points
    return [as_number(value) for value in points]


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

"""What Detectron2 has to know of keypoints, from the categories of a file."""

from __future__ import annotations

import re
from typing import Any

from distill.data.coco_json.file import CocoFile, Entry
from distill.data.coco_json.values import as_number

__all__ = ["keypoint_metadata", "keypoint_numbers"]

_LONGEST = 2**31
_COLOR = (102, 204, 255)
_SIDES = ((r"left", "right"), (r"Left", "Right"), (r"LEFT", "RIGHT"))
# A side as a letter of its own: l_eye, eye.L.
_SIDES += ((r"(?<![a-zA-Z])l(?![a-zA-Z])", "r"), (r"(?<![a-zA-Z])L(?![a-zA-Z])", "R"))


def keypoint_metadata(file: CocoFile) -> dict[str, Any]:
    """Names, mirrored pairs and connections of keypoints; {} where the categories have none.

    Names that differ in left and right alone are a pair.

    Raises:
        ValueError: one sentence, if categories have different keypoints, which Detectron2 can't.
    """
    found = [x for x in file.categories if x.get("keypoints") and isinstance(x["keypoints"], list)]
    if not found:
        return {}
    names = tuple(str(name) for name in found[0]["keypoints"])
    for category in found:
        if tuple(str(name) for name in category["keypoints"]) != names:
            raise ValueError(
                f"{file.path}: the categories {found[0]['name']!r} and {category['name']!r} have "
                "different keypoints, where a detector has one list: leave them out of all but one."
            )
    return {
        "keypoint_names": names,
        "keypoint_flip_map": tuple(_pairs(names)),
        "keypoint_connection_rules": _connections(names, found[0].get("skeleton")),
    }


def keypoint_numbers(file: CocoFile, annotation: Entry, count: int | None = None) -> list[float]:
    """A box' keypoints: x, y and visibility of each.

    Args:
        file: the file that has it.
        annotation: the box.
        count: how many it must have, if that is known.

    Raises:
        ValueError: one sentence that names the box.
    """
    points = annotation["keypoints"]
    try:
        if not isinstance(points, list):
            raise ValueError
        numbers = [x if type(x) is int else as_number(x) for x in points]
        if len(numbers) % 3 or count not in (None, len(numbers) // 3):
            raise ValueError
        # An integer that no float holds is no place in an image.
        return [float(x) if abs(x) > _LONGEST else x for x in numbers]
    except (TypeError, ValueError, OverflowError) as error:
        expected = "" if count is None else f" of {count} points"
        raise ValueError(
            f"{file.path}: box {annotation['id']!r} has the keypoints {str(points):.80}: write x, "
            f"y and visibility{expected}, as numbers."
        ) from error


def _pairs(names: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = []
    for name in names:
        mirrored = [re.sub(left, right, name) for left, right in _SIDES]
        pairs += [(name, other) for other in mirrored if other != name and other in names][:1]
    return pairs


def _connections(names: tuple[str, ...], skeleton: Any) -> list[tuple[str, str, tuple]]:
    """Pairs of names; a skeleton has pairs of numbers from 1 on, and may be anything."""
    found = []
    for pair in skeleton if isinstance(skeleton, list) else ():
        numbers = pair if isinstance(pair, list) else ()
        ends = [names[i - 1] for i in numbers if type(i) is int and 0 < i <= len(names)]
        if len(ends) == 2:
            found.append((*ends, _COLOR))
    return found

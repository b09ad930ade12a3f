"""From a file's bytes to what its JSON says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["parse_json"]

# Keys that stand once in an entry, and whose second value would silently replace the first.
_KEYS = ("images", "annotations", "categories", "id", "image_id", "category_id", "bbox")
_KEYS += ("file_name", "width", "height")


def parse_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file of images, of whatever Unicode encoding, with or without its mark.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one sentence, if it can't be read, is no JSON, says two things under one key, or
            holds something else than images.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: correct its path.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} can't be read ({error.strerror}): see to its rights.") from error
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        del raw
        content = json.loads(text.removeprefix("\ufeff"))
        if _may_repeat_a_key(text, content):
            json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_without_repeats)
    except _RepeatedKeyError as error:
        raise ValueError(f"{path} {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no JSON, or cut short ({error}): make it again, or copy it again."
        ) from error
    return _of_images(path, content)


def _of_images(path: Path, content: Any) -> dict[str, Any]:
    """Content that has a list of images."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "image_id" in first:
        raise ValueError(
            f"{path} is no COCO file of boxes but a list of detections, as COCO's evaluation takes "
            "them, which lacks images and categories: make a file with the `images` and "
            "`categories` of the labels that they belong to, and the list as its `annotations`."
        )
    if not isinstance(content, dict) or not any(key in content for key in _KEYS[:3]):
        kind = {list: "a list", dict: "something else", type(None): "null"}.get(
            type(content), f"{content!r:.40}"
        )
        raise ValueError(
            f"{path} is no COCO file of boxes but {kind}: it must have `images`, `annotations` and "
            "`categories`."
        )
    return content


class _RepeatedKeyError(ValueError):
    pass


def _may_repeat_a_key(text: str, content: Any) -> bool:
    """Whether keys stand more often in the text than in what was made of it.

    To look at each object while it is parsed would take twice as long.
    """
    if not isinstance(content, dict):
        return False
    lists = [x for x in content.values() if isinstance(x, list)]
    for key in _KEYS:
        known = sum(sum(type(x) is dict and key in x for x in entries) for entries in lists)
        if text.count(f'"{key}"') > known + (key in content):
            return True
    return False


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        for key, value in pairs:
            if value != entry[key]:
                raise _RepeatedKeyError(
                    f"has the key {key!r} twice in one object, with {value!r:.60} and "
                    f"{entry[key]!r:.60}: keep one of the two"
                )
    return entry

"""The header of a file of labels, as far as commands read it."""

from __future__ import annotations

from typing import Any

from distill.data.coco_json.values import as_number

__all__ = ["checked_header"]


def checked_header(info: dict[str, Any]) -> dict[str, Any]:
    """A header with the entries that every file has.

    Args:
        info: what a file has under "info".

    Raises:
        ValueError: half a sentence, if an entry that is read is of another kind.
    """
    header = {"image_root": "", "dataset": None, **info}
    header["image_root"] = header["image_root"] or ""
    for key in ("image_root", "dataset"):
        if not isinstance(header[key], str | None):
            raise ValueError(f"{key!r} in its info is {header[key]!r:.60}: write text")
        if "\0" in (header[key] or ""):
            raise ValueError(f"{key!r} in its info is {header[key]!r:.60}, which no path can be")
    for key in ("teachers", "thresholds"):
        entries = header.get(key) or {}
        if not isinstance(entries, dict) or not all(isinstance(x, dict) for x in entries.values()):
            raise ValueError(
                f"{key!r} in its info is {entries!r:.60}: write an object a teacher, or remove it"
            )
    counts = header.get("counts") or {}
    skipped = counts.get("skipped", 0) if isinstance(counts, dict) else None
    if type(skipped) is not int:
        raise ValueError(f"'counts' in its info is {counts!r:.60}: write numbers, or remove it")
    floor = header.get("score_floor") or 0.0
    try:
        right = 0 <= as_number(floor) < 1
    except ValueError:
        right = False
    if not right:
        raise ValueError(
            f"'score_floor' in its info is {floor!r:.60}: write a number at least 0 and below 1"
        )
    return header

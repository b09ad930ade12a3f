"""The categories of a file that is made of others: their ids stay where the order allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.data.coco_json.values import as_whole_number

__all__ = ["category_entries"]

Id = int | str


def category_entries(names: Sequence[str], known: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Categories for classes, in their order, with ids that ascend, as whoever reads them sorts.

    Args:
        names: the classes.
        known: categories of some of them, with ids and whatever else is to be kept.

    Returns:
        One for each class. Known ones keep their ids, and others get free ones in between; where
        there is no room, all are numbered from 1.
    """
    by_name = {category["name"]: category for category in known}
    ids: list[Id | None] = [by_name[name]["id"] if name in by_name else None for name in names]
    ids = _filled(ids, names)
    return [
        {**by_name.get(name, {}), "id": own, "name": name}
        for name, own in zip(names, ids, strict=True)
    ]


def _filled(ids: list[Id | None], names: Sequence[str]) -> list[Id]:
    try:
        numbers = [None if value is None else as_whole_number(value) for value in ids]
    except ValueError:
        # Classes whose ids are no numbers are in the order of the file.
        taken = {value for value in ids if value is not None}
        free = [name if name not in taken else f"{name}-{i}" for i, name in enumerate(names)]
        return [new if value is None else value for value, new in zip(ids, free, strict=True)]
    first = next((i for i, value in enumerate(numbers) if value is not None), None)
    # Those before the first known id count down from it.
    last = 0 if first is None else numbers[first] - first - 1
    filled: list[Id] = []
    for value, own in zip(numbers, ids, strict=True):
        last = last + 1 if value is None or own is None else value
        filled.append(last if own is None else own)
    values = [as_whole_number(value) for value in filled]
    if values != sorted(set(values)) or (values and values[0] < 0):
        return list(range(1, len(names) + 1))
    return filled

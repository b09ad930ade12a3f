"""Numbers and ids as exporters write them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["NUMBERS", "Ids", "as_id", "as_number", "as_whole_number"]

# Types of plain numbers.
NUMBERS = frozenset((int, float))

# A whole number beyond this may have been rounded where it was written as a float.
_EXACT = 2**53


def as_number(value: Any) -> float:
    """A number, or a number as text, as a float.

    Raises:
        ValueError: if it is none, or not finite.
    """
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError(f"{value!r} is no finite number")


def as_whole_number(value: Any) -> int:
    """The same for whole numbers: 3, 3.0, "3" and "3.0" are 3.

    Raises:
        ValueError: if it is none.
    """
    if type(value) is int:
        return value
    number = as_number(value)
    if not number.is_integer():
        raise ValueError(f"{value!r} is no whole number")
    return int(number)


def as_id(value: Any) -> int | str:
    """An id as others may use it: text, or a whole number.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError(f"{value!r} is neither a whole number nor text")


class Ids:
    """The ids of a list, found by what others write for them: 1, 1.0 and "1" are one id.

    Where the list itself has two such ids, each is found as it is written alone.
    """

    def __init__(self, ids: Iterable[int | str]) -> None:
        """Takes ids that are all different."""
        self.exact = {value: value for value in ids}
        self._by_text: dict[str, int | str | None] = {}
        for value in self.exact:
            text = _text(value)
            self._by_text[text] = None if text in self._by_text else value

    def find(self, value: Any) -> int | str | None:
        """The id that a value stands for; None if there is none."""
        try:
            found = self.exact.get(value)
        except TypeError:  # a list, say
            return None
        return self._by_text.get(_text(value)) if found is None else found


def _text(value: Any) -> str:
    if isinstance(value, float | str):
        try:
            number = float(value)
        except ValueError:
            return str(value).strip()
        # Digits of larger ones are taken as they are.
        if number.is_integer() and abs(number) < _EXACT:
            return str(int(number))
    return str(value).strip()

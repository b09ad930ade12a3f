"""What a config key may be, as data: a number in a range, one of some words, a list of such.

A limit stands beside the key that it is about, see `distill.utils.config_keys.limit`. It knows what
to tell a user whose value it does not allow, and how it reads in the list of all keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from distill.utils.config_values import shown
from distill.utils.wording import did_you_mean

__all__ = [
    "Limit",
    "anything",
    "flag",
    "list_of",
    "number",
    "one_of",
    "optional",
    "text",
    "whole",
]


class Limit(Protocol):
    """What a key may be; ``str(limit)`` is the shortest way to say so, "" for any value."""

    def remedy(self, value: Any) -> str:
        """What to do about a value, as the end of a sentence; "" where it is allowed."""
        ...


@dataclass(frozen=True)
class _Number:
    noun: str
    kinds: tuple[type, ...]
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    also: tuple[float, ...] = ()

    def remedy(self, value: Any) -> str:
        if type(value) not in self.kinds:
            return f"it must be {self.noun} {self}".rstrip()
        inside = self.least <= value <= self.most and self.above < value < self.below
        allowed = value in self.also or (inside and math.isfinite(value))
        return "" if allowed else f"it must be {str(self) or 'finite'}"

    def __str__(self) -> str:
        parts = [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", self.least),
                ("above", self.above),
                ("at most", self.most),
                ("below", self.below),
            )
            if math.isfinite(bound)
        ]
        ranges = [" and ".join(parts)] if parts else []
        return " or ".join([*ranges, *(f"{value:g}" for value in self.also)])


@dataclass(frozen=True)
class _Word:
    words: tuple[str, ...]

    def remedy(self, value: Any) -> str:
        if isinstance(value, str) and value in self.words:
            return ""
        return f"choose one of {self}{did_you_mean(value, self.words)}"

    def __str__(self) -> str:
        return ", ".join(word or '""' for word in self.words)


@dataclass(frozen=True)
class _Kind:
    kind: type
    noun: str

    def remedy(self, value: Any) -> str:
        return "" if isinstance(value, self.kind) else f"it must be {self.noun}"

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class _List:
    item: Limit
    lengths: tuple[int, ...] = ()
    least: int = 0
    distinct: bool = False
    rising: bool = False
    nested: bool = False

    def remedy(self, value: Any) -> str:
        if not isinstance(value, (list, tuple)):
            return "it must be a list"
        if self.lengths and len(value) not in self.lengths:
            return f"it must have {' or '.join(map(str, self.lengths))} entries"
        if len(value) < self.least:
            return f"it must have at least {self.least} entries"
        for entry in _leaves(value) if self.nested else value:
            if wrong := self.item.remedy(entry):
                return f"of its entry {shown(entry)}: {wrong}"
        twice = [entry for entry in value if value.count(entry) > 1] if self.distinct else []
        if twice:
            return f"it may have {shown(twice[0])} only once"
        if self.rising and any(a >= b for a, b in zip(value, value[1:], strict=False)):
            return "its entries must rise"
        return ""

    def __str__(self) -> str:
        parts = [f"each {self.item}" if str(self.item) else ""]
        parts.append(f"{' or '.join(map(str, self.lengths))} entries" if self.lengths else "")
        parts.append("not empty" if self.least == 1 else "")
        parts.append("rising" if self.rising else "none twice" if self.distinct else "")
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class _Optional:
    limit: Limit

    def remedy(self, value: Any) -> str:
        return "" if value is None else self.limit.remedy(value)

    def __str__(self) -> str:
        return f"{self.limit} or None"


def number(
    *,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    also: tuple[float, ...] = (),
) -> Limit:
    """A finite number in a range.

    Args:
        at_least: the least one.
        at_most: the largest one.
        above: a bound that is not allowed itself.
        below: such a bound.
        also: further values, outside of the range.
    """
    return _Number("a number", (int, float), at_least, at_most, above, below, also)


def whole(
    *, at_least: float = -math.inf, at_most: float = math.inf, also: tuple[int, ...] = ()
) -> Limit:
    """A whole number in a range; the arguments are those of :func:`number`."""
    return _Number("a whole number", (int,), at_least, at_most, also=also)


def one_of(*words: str) -> Limit:
    """One of some words."""
    return _Word(words)


def text() -> Limit:
    """Any text."""
    return _Kind(str, "text")


def flag() -> Limit:
    """True or False."""
    return _Kind(bool, "True or False")


def anything() -> Limit:
    """Any value; of a list's entries."""
    return _Kind(object, "anything")


def list_of(
    item: Limit,
    *,
    length: int | tuple[int, ...] = (),
    at_least: int = 0,
    distinct: bool = False,
    rising: bool = False,
    nested: bool = False,
) -> Limit:
    """A list or tuple.

    Args:
        item: what its entries may be.
        length: how many there must be, or the numbers to choose from.
        at_least: how many there must be at least.
        distinct: none may be there twice.
        rising: each must be larger than the one before.
        nested: entries may be lists themselves, of which `item` is about the innermost entries.
    """
    lengths = (length,) if isinstance(length, int) else length
    return _List(item, lengths, at_least, distinct, rising, nested)


def optional(limit: Limit) -> Limit:
    """None, or what another limit allows."""
    return _Optional(limit)


def _leaves(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        return [value]
    return [leaf for entry in value for leaf in _leaves(entry)]

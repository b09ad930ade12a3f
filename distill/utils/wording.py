"""Lists inside of sentences."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["some_of"]


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names, and dots where there are more: "a, b, c, ..."."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

"""Lists and suggestions inside of sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["did_you_mean", "some_of"]


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names, and dots where there are more: "a, b, c, ..."."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """What follows an unknown name in an error: the known name that looks most like it.

    Capitals do not count, and neither do the signs between words.

    Args:
        name: the unknown name, as the user wrote it.
        known: the names that would have been right.

    Returns:
        ``; did you mean "FPN"?``, or ``""`` where none looks like it.
    """
    plain = {_plain(other): other for other in known}
    close = difflib.get_close_matches(_plain(str(name)), plain, n=1, cutoff=0.6)
    return f'; did you mean "{plain[close[0]]}"?' if close else ""


def _plain(name: str) -> str:
    """A name without capitals and without signs between its words, but for dots of a path."""
    return "".join(sign for sign in name.lower() if sign.isalnum() or sign == ".")

"""Lists and suggestions inside of sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["did_you_mean", "sentence_of", "some_of"]

# How torch reports an error of a loader's worker: with its traceback, whose last line it is.
_OF_WORKER = "Original Traceback (most recent call last):"
# Kinds of errors whose texts are sentences.
_SPEAKING = ("ValueError", "OSError", "FileNotFoundError", "OutOfMemoryError", "UnreadableImage")


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


def sentence_of(error: BaseException) -> str:
    """An error's text in one line, without its full stop; also that of a loader's worker.

    Args:
        error: of any kind.

    Returns:
        The text, after the kind's name where a text does not speak for itself.
    """
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if any(_OF_WORKER in line for line in lines):
        kind, _, text = lines[-1].partition(": ")
        return _with_kind(kind.rpartition(".")[2], text).rstrip(".")
    return _with_kind(type(error).__name__, " ".join(lines[:1])).rstrip(".")


def _with_kind(kind: str, text: str) -> str:
    return text if text and kind in _SPEAKING else f"{kind}: {text}".removesuffix(": ")


def _plain(name: str) -> str:
    """A name without capitals and without signs between its words, but for dots of a path."""
    return "".join(sign for sign in name.lower() if sign.isalnum() or sign == ".")

"""Values of config keys: how a given one becomes the key's type, and how it is shown."""

from __future__ import annotations

import ast
from typing import Any

__all__ = ["fit_value", "shown"]

_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
}


def fit_value(value: Any, default: Any, name: str) -> Any:
    """A given value as the type of the value that it replaces.

    Converted is what cannot be a mistake: 2.0 for a whole number, 1 for a number, a number or name
    written as text, "true" for True, a single value where a list belongs, and None for nothing.
    A key that is None takes any value.

    Args:
        value: from YAML or a command line.
        default: the value until now.
        name: what is set, to begin an error with.

    Raises:
        ValueError: one sentence.
    """
    read = _read(value)
    if isinstance(default, str):
        # What looks like a number is the text that it is written as.
        read = value if isinstance(value, str) and not isinstance(read, (str, type(None))) else read
    if default is None or type(read) is type(default):
        return read
    if isinstance(default, (list, tuple)) and not isinstance(read, dict):
        return type(default)(_items(read, name))
    if read is None and isinstance(default, str):
        return ""
    if isinstance(read, int) and not isinstance(read, bool) and isinstance(default, float):
        return float(read)
    if isinstance(read, float) and type(default) is int and read.is_integer():
        return int(read)
    if isinstance(default, bool) and str(read).lower() in ("true", "false"):
        return str(read).lower() == "true"
    quoted = isinstance(default, str) and not isinstance(read, (dict, list, tuple))
    hint = ": put it in quotes" if quoted else ""
    raise ValueError(f"{name} is {shown(value)}, but must be {_KINDS[type(default)]}{hint}")


def shown(value: Any) -> str:
    """A value in an error: in one line, and not longer than half of it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:50]} ..."


def _read(value: Any) -> Any:
    """A text as the literal that it writes; anything else, and other text, as it is."""
    if not isinstance(value, str):
        return value
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return value
    plain = isinstance(read, (bool, int, float, str, list, tuple, type(None)))
    return read if plain else value


def _items(value: Any, name: str) -> list[Any]:
    """The items of what is given where a list belongs."""
    if isinstance(value, str) and value.lstrip()[:1] in ("(", "[", "{"):
        raise ValueError(
            f"{name} is {shown(value)}, which is no list: put its names in quotes, as in "
            "\"('a', 'b')\""
        )
    if isinstance(value, (list, tuple)):
        return list(value)
    return [] if value is None or value == "" else [value]

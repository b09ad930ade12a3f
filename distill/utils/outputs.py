"""Where a command is about to write: checked before it begins, and named safely."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "check_name",
    "check_output_file",
    "check_output_folder",
    "is_same_file",
    "name_for_file",
]

# What a name that becomes a folder may be on every system.
_NAME = re.compile(r"\w[\w .+=@,()-]*")
# What Windows calls devices, with any ending.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# Of a part of a path, in bytes, on all file systems in use.
_LONGEST = 255
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')


def check_output_file(path: str | Path, key: str, inputs: Iterable[str | Path] = ()) -> None:
    """Verifies that a file can be written, and that it is none of those that are read.

    Args:
        path: the file; its folder need not exist.
        key: the option or key that names it, for messages.
        inputs: files that are read; links to one are that file.

    Raises:
        ValueError: one sentence, if it can't.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{key} {path} is a folder: give the name of a file.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{key} {path} is a device or pipe: give the name of a file.")
    for other in inputs:
        if is_same_file(path, other):
            raise ValueError(
                f"{key} {path} is {other}, which is read and would be lost: give another file."
            )
    check_output_folder(path.parent, key)


def check_output_folder(folder: str | Path, key: str) -> None:
    """Verifies that a folder is there and can be written to, or can be made.

    Args:
        folder: the folder; nothing is made.
        key: the option or key that names it, for messages.

    Raises:
        ValueError: one sentence, if it can't.
    """
    place = Path(folder)
    if any(len(os.fsencode(part)) > _LONGEST for part in place.parts):
        raise ValueError(f"{key}: a name in {str(place):.60}... is too long: choose a shorter one.")
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"{key}: {place} is no folder: choose another place to write to.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"{key}: {place} may not be written to: choose another place.")


def is_same_file(first: str | Path, second: str | Path) -> bool:
    """Whether two paths are of one file, by links of any kind or another way of writing it."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def check_name(name: str, what: str) -> None:
    """Verifies that a name can be that of a file or folder on every system.

    Args:
        name: the name.
        what: what it is the name of, for messages.

    Raises:
        ValueError: one sentence, if it has separators, leads elsewhere, or is reserved.
    """
    if not _NAME.fullmatch(name) or name.endswith((" ", ".")) or _RESERVED.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} is no plain name of a file: begin it with a letter, a digit "
            "or _, and add no others than these and - . + = @ , ( ) and spaces inside."
        )


def name_for_file(name: str) -> str:
    """A name as part of a file's name: what leads to other folders is replaced by "_"."""
    safe = _UNSAFE.sub("_", name)
    return f"_{safe}" if safe.startswith(".") else safe

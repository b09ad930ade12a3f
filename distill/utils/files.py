"""Files that appear whole or not at all, the one format of JSON files, and digests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = [
    "atomic_write",
    "bytes_digest",
    "file_digest",
    "first_line",
    "json_digest",
    "load_json",
    "remove_stale_files",
    "write_json",
]

_HOST = socket.gethostname()
# Before files of several machines lay in one folder, their names had no host.
_NAME = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)(@(?P<host>.+))?\.unfinished", re.DOTALL)
# Seconds after which another machine's file has no writer any more.
_ABANDONED = 3600.0


def atomic_write(
    path: Path,
    write: Callable[[IO[bytes]], Any],
    *,
    advice: str = "free disk space or choose another place",
) -> None:
    """Replaces a file by what ``write`` puts into a stream, or leaves it untouched.

    What writers of the same file that were killed have left is removed.

    Args:
        path: the file; its folder exists.
        write: writes into a stream.
        advice: what the user is to do if it fails, for the message.

    Raises:
        OSError: if writing fails; the unfinished file is removed.
    """
    remove_stale_files(path.parent, path.name)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}@{_HOST}.unfinished")
    try:
        if path.exists() and not path.is_file():
            # It would be lost, as /dev/null is to whoever may replace it.
            raise OSError("it is a folder, device or pipe")
        with open(unfinished, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:
        # torch.save reports a full disk as RuntimeError.
        raise OSError(
            f"{path} could not be written ({first_line(error)}) and is as it was before: {advice}."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def load_json(text: str | bytes) -> Any:
    """The value that JSON text stands for.

    Raises:
        ValueError: if it is no JSON, or is nested deeper than any file that is meant.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by plain values as indented JSON, whole or not at all.

    Raises:
        OSError: if it can't be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    atomic_write(path, lambda stream: stream.write(text.encode()))


def remove_stale_files(folder: Path, name: str | None = None) -> None:
    """Removes what writers that were killed left behind in a folder; those alive keep theirs.

    Args:
        folder: where they wrote; it need not exist.
        name: of the file that they wrote; None for all.
    """
    for found in folder.iterdir() if folder.is_dir() else ():
        of = _NAME.fullmatch(found.name)
        if of and name in (None, of["name"]) and not _is_being_written(found, of):
            found.unlink(missing_ok=True)


def _is_being_written(unfinished: Path, of: re.Match[str]) -> bool:
    if of["host"] not in (None, _HOST):  # Its processes can't be asked.
        try:
            return time.time() - unfinished.stat().st_mtime < _ABANDONED
        except FileNotFoundError:
            return False
    try:
        os.kill(int(of["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # It is another user's.
        return True
    return True


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; the file need not fit into memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def bytes_digest(content: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 of plain values, in hexadecimal; the order of a dict's keys plays no part."""
    return bytes_digest(json.dumps(value, sort_keys=True, default=str).encode())


def first_line(error: BaseException) -> str:
    """The first line of an error's text without its full stop, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

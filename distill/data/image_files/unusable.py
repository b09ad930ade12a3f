"""Which of many image files can't be used: looked at by threads, and remembered."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from distill.data.image_files.header import size_in_header
from distill.data.image_files.memory import is_known_good, remember_good
from distill.data.image_files.reading import read_image, reason_of, size_mismatch

__all__ = ["Unusable", "find_unusable", "has_local_file"]

# Files wait for disks and networks, not for processors.
_THREADS = 16
# Images that a thread takes at a time: fewer cost more than the look itself.
_CHUNK = 64
# Looks that took less, in seconds, are not worth a file.
_WORTH_A_FILE = 2.0

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Unusable:
    """An image that can't be used.

    Attributes:
        number: its place among the records.
        kind: "missing", "damaged", or "of another size than their record says".
        path: its file.
        reason: why, in a few words.
    """

    number: int
    kind: str
    path: str
    reason: str


def find_unusable(records: Sequence[dict[str, Any]], *, decode: bool = False) -> list[Unusable]:
    """Finds the images that are missing, no image, or of another size than their record says.

    If there is none, that is remembered for as long as no file of the records has another size or
    time of change: in this process, and on disk if the look took long. What is wrong may be so for
    a moment only, and is looked at again.

    Args:
        records: in Detectron2's format; a size that they lack may be any. Those without a local
            file are not looked at.
        decode: read the images whole, and not only their headers.
    """
    wanted = [
        (number, record["file_name"], record.get("width"), record.get("height"))
        for number, record in enumerate(records[i] for i in range(len(records)))
        if has_local_file(record)
    ]
    stamps = list(_in_threads(_stamp, [path for _, path, *_ in wanted]))
    key = _digest(decode, wanted, stamps)
    if is_known_good(key):
        return []
    start = time.monotonic()
    seen = _in_threads(
        functools.partial(_look, decode=decode), list(zip(wanted, stamps, strict=True))
    )
    bar = tqdm(
        seen,
        total=len(wanted),
        desc="Looking at images",
        unit="img",
        delay=_WORTH_A_FILE,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )
    found = [x for x in bar if x is not None]
    if not found:
        remember_good(key, on_disk=time.monotonic() - start > _WORTH_A_FILE)
    return found


def has_local_file(record: dict[str, Any]) -> bool:
    """Whether a record names a file, and no address that is fetched when it is read."""
    return "file_name" in record and "://" not in str(record["file_name"])


def _in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What a function makes of items, in their order."""
    chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from itertools.chain.from_iterable(
            threads.map(lambda chunk: [work(x) for x in chunk], chunks)
        )


def _stamp(path: str) -> tuple[int, int] | None:
    """Time of change in nanoseconds and size in bytes; None where there is no such thing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def _digest(decode: bool, wanted: Iterable[tuple], stamps: Iterable[tuple | None]) -> str:
    """SHA-256 of all that the outcome depends on."""
    digest = hashlib.sha256(f"1 {decode}".encode())
    for (number, path, width, height), stamp in zip(wanted, stamps, strict=True):
        row = (number, os.path.abspath(path), width, height, stamp)
        digest.update(repr(row).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _look(item: tuple[tuple, tuple[int, int] | None], *, decode: bool) -> Unusable | None:
    (number, path, width, height), stamp = item
    if stamp is None:
        return Unusable(number, "missing", path, "there is no such file")
    said = {"width": width, "height": height}
    try:
        if decode:
            size = read_image(path, "RGB").shape[1::-1]
        else:
            size = size_in_header(path)
    except Exception as error:  # whatever is wrong with a file must not hide the others
        return Unusable(number, "damaged", path, reason_of(error, path))
    said = {key: value for key, value in said.items() if value is not None}
    reason = size_mismatch(said, size)
    if reason:
        return Unusable(number, "of another size than their record says", path, reason)
    return None

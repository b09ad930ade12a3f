"""What can happen to any file: cut, flipped, repeated, in another encoding."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

from fuzz.judge import Expected

# Title, encoding, and whether the file still means the same.
ENCODINGS: tuple[tuple[str, str, Expected], ...] = (
    ("a byte order mark", "utf-8-sig", "same"),
    ("UTF-16", "utf-16", "same"),
    ("UTF-16 without a mark", "utf-16-le", "either"),
    ("UTF-32", "utf-32", "either"),
    ("ASCII", "ascii", "same"),
)


def as_text(content: Any) -> bytes:
    """Plain values as JSON, with NaN and Infinity as Python writes them."""
    return json.dumps(content).encode()


def damaged(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    """Damages text that ends where its last bracket does, such as JSON.

    Returns:
        What was done, whether it is still a file to take, and the file.
    """
    return rng.choice((_cut, _empty, _flipped, _garbage, _zipped, _page, _bad_byte))(data, rng)


def damaged_binary(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    """Damages a file of numbers."""
    return rng.choice((_cut, _cut, _empty, _flipped, _zipped, _page, _pointer, _zeros))(data, rng)


def _cut(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    length = rng.randrange(1, len(data) - 1)
    return f"cut after {length} of {len(data)} bytes", "refused", data[:length]


def _empty(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    return "empty", "refused", b""


def _flipped(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    changed = bytearray(data)
    place = rng.randrange(len(changed))
    changed[place] ^= 1 << rng.randrange(8)
    return f"a bit of byte {place} of {len(data)} flipped", "either", bytes(changed)


def _garbage(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    rest = rng.choice((b"x", b"}", b"\x00\x00", data))
    return f"followed by {rest[:8]!r}", "refused", data + rest


def _zipped(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    return "gzipped", "refused", gzip.compress(data, mtime=0)


def _page(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    return "a web page", "refused", b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"


def _pointer(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize {len(data)}\n"
    return "a pointer of Git LFS", "refused", text.encode()


def _zeros(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    return "zeros", "refused", bytes(len(data))


def _bad_byte(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    place = data.index(b'"', rng.randrange(len(data) // 2)) + 1
    return f"byte {place} is no UTF-8", "refused", data[:place] + b"\xff\xfe\xc3" + data[place:]

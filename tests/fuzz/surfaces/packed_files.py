"""Packed students, evaluated and loaded: damaged, with other headers, of other sizes."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz import commands
from fuzz.judge import Command, Expected, Try
from fuzz.surfaces.damage import damaged_binary

COMMANDS = (
    commands.train(
        "evaluated packed",
        lambda f, b: [
            *("MODEL.WEIGHTS", str(f), "DATASETS.TEST", commands.data(b / "train.json", b)),
        ],
        commands.results,
        config="one_bit",
        flags=("--eval-only",),
    ),
    Command(
        "loaded",
        "tests/fuzz/load_packed.py",
        lambda f, o: [str(f)],
        lambda out, file, said: said,
    ),
    commands.train("trained from packed", lambda f, b: ["MODEL.WEIGHTS", str(f)], config="one_bit"),
)
PROPER = {command.name: "packed.safetensors" for command in COMMANDS}
Header = dict[str, Any]


def make(rng: random.Random, base: Path, folder: Path) -> Try:
    """A packed file with one change."""
    command = rng.choices(COMMANDS, (6, 6, 1))[0]
    data = (base / "packed.safetensors").read_bytes()
    file = folder / "student.safetensors"
    expected: Expected
    if rng.random() < 0.45:
        what, expected, data = damaged_binary(data, rng)
        # All of it is under a checksum.
        expected = "unharmed" if expected == "either" else expected
    else:
        what, expected, data = _other_header(data, rng)
    file.write_bytes(data)
    if command.name == "trained from packed":
        expected = "refused"
    return Try(f"{command.name}: {what}", command, file, expected, (file.name,))


def _other_header(data: bytes, rng: random.Random) -> tuple[str, Expected, bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    way = rng.choice(("length", "metadata", "metadata", "tensor", "tensor", "tensor"))
    if way == "length":
        lied = rng.choice((0, 1, 2**40, 2**63, 2**64 - 1, length - 1, length + 8, len(data)))
        return f"a header of {lied} bytes", "refused", struct.pack("<Q", lied) + data[8:]
    what, expected = (_metadata if way == "metadata" else _tensor)(header, rng)
    if rng.random() < 0.6:
        # As somebody would who wants it to be taken.
        what += ", with its checksum"
        header["__metadata__"]["sha256"] = _checksum(header, body)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return what, expected, struct.pack("<Q", len(text)) + text + body


def _metadata(header: Header, rng: random.Random) -> tuple[str, Expected]:
    metadata = header["__metadata__"]
    key = rng.choice(sorted(set(metadata) - {"sha256"}))
    values = ["", "x", "-1", "0", "3", "1e9", "null", '["a"]', "{}", "[" * 3000, "ä" * 9]
    if key == "config":
        own = metadata["config"]
        values += [own.replace("OUT_CHANNELS: 8", "OUT_CHANNELS: 1000000000")]
        values += [own + "\nX: !!python/object/apply:os.system ['touch ran']", own[:200]]
        values += [own.replace("NUM_CLASSES: 2", "NUM_CLASSES: 3"), own.replace("MODEL", "MODLE")]
    value = rng.choice(values)
    change = rng.choice(("value", "value", "value", "missing"))
    if change == "missing":
        del metadata[key]
    else:
        metadata[key] = value
    # The version is for people, and the checksum may be right.
    expected: Expected = (
        "either" if key in ("library_version", "class_names", "config") else "refused"
    )
    return f"{key}: {change} {value[:40]!r}", expected


def _tensor(header: Header, rng: random.Random) -> tuple[str, Expected]:
    name = rng.choice(sorted(set(header) - {"__metadata__"}))
    entry = header[name]
    begin, end = entry["data_offsets"]
    ways: list[tuple[str, Callable[[], Any]]] = [
        ("100 GB in its shape", lambda: entry.update(shape=[10**11])),
        ("2^63 in its shape", lambda: entry.update(shape=[2**63, 2])),
        ("a negative shape", lambda: entry.update(shape=[-1])),
        ("400 GB by its offsets", lambda: entry.update(data_offsets=[begin, begin + 4 * 10**11])),
        ("offsets the wrong way", lambda: entry.update(data_offsets=[end, begin])),
        ("offsets that overlap", lambda: entry.update(data_offsets=[0, end - begin])),
        ("no type", lambda: entry.pop("dtype")),
        ("an unknown type", lambda: entry.update(dtype="F3")),
        ("a wider type", lambda: entry.update(dtype="F64")),
        ("text for a shape", lambda: entry.update(shape="3x3")),
        ("another name", lambda: header.update({f"{name}.x": header.pop(name)})),
        ("not listed", lambda: header.pop(name)),
        ("a shape of one", lambda: entry.update(shape=[1, *entry["shape"]])),
    ]
    what, change = rng.choice(ways)
    change()
    return f"{name}: {what}", "refused"


def _checksum(header: Header, body: bytes) -> str:
    """As the library computes it, of what the header says is there."""
    metadata = {k: v for k, v in header["__metadata__"].items() if k != "sha256"}
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    kinds = {"F32": "torch.float32", "U8": "torch.uint8", "I64": "torch.int64"}
    for name in sorted(set(header) - {"__metadata__"}):
        entry = header[name]
        kind = kinds.get(entry.get("dtype"), "torch.float64")
        digest.update(json.dumps([name, kind, entry["shape"]]).encode())
        begin, end = entry["data_offsets"]
        digest.update(body[begin:end])
    return digest.hexdigest()

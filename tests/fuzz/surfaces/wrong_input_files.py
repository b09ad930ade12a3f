"""Files and folders that are wrong, by what they should be and in which way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# Makes the wrong thing in a folder, from the proper one.
Way = Callable[[Path, Path], Path]


def _missing(proper: Path, folder: Path) -> Path:
    return folder / f"nothing{proper.suffix}"


def _folder(proper: Path, folder: Path) -> Path:
    path = folder / f"folder{proper.suffix}"
    path.mkdir()
    return path


def _cut(proper: Path, folder: Path) -> Path:
    data = proper.read_bytes()
    return _file(proper, folder, data[: len(data) // 2])


def _empty(proper: Path, folder: Path) -> Path:
    return _file(proper, folder, b"")


def _other_bytes(proper: Path, folder: Path) -> Path:
    return _file(proper, folder, bytes(range(256)) * 4)


def _list(proper: Path, folder: Path) -> Path:
    return _file(proper, folder, b"[1, 2]\n")


def _unknown_key(proper: Path, folder: Path) -> Path:
    return _file(proper, folder, b'{"SOLVRE": {"MAX_ITER": 3}, "classes": 7}\n')


def _file(proper: Path, folder: Path, data: bytes) -> Path:
    path = folder / f"wrong{proper.suffix}"
    path.write_bytes(data)
    return path


def _below_a_file(proper: Path, folder: Path) -> Path:
    (folder / "file").write_text("a file")
    return folder / "file" / "output"


def _a_file(proper: Path, folder: Path) -> Path:
    path = folder / "file"
    path.write_text("a file")
    return path


_FILE: dict[str, Way] = {
    "missing": _missing,
    "a folder": _folder,
    "cut": _cut,
    "empty": _empty,
    "other bytes": _other_bytes,
}
_TEXT: dict[str, Way] = {**_FILE, "a list": _list, "other keys": _unknown_key}
WAYS: dict[str, dict[str, Way]] = {
    "config": _TEXT,
    "weights": _FILE,
    "one_bit": _FILE,
    "packed": _FILE,
    "labels": _TEXT,
    "pseudo": _TEXT,
    "thresholds": _TEXT,
    "aliases": {k: v for k, v in _TEXT.items() if k not in ("cut", "empty", "other keys")},
    "plan": _TEXT,
    "images": {"missing": _missing, "a file": _a_file, "empty": _folder},
    "folder": {"below a file": _below_a_file, "a file": _a_file},
    "output": {"below a file": _below_a_file},
}

"""Files appear whole or not at all; digests are of what is in them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import IO

import pytest

from distill.utils.files import (
    atomic_write,
    file_digest,
    json_digest,
    load_json,
    remove_stale_files,
    write_json,
)


def test_a_writer_that_fails_leaves_the_old_file_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, lambda stream: stream.write(b"old"))

    def fail(stream: IO[bytes]) -> None:
        stream.write(b"ne")
        raise OSError("no space left\nat all")

    with pytest.raises(OSError, match=r"a.bin could not be written \(no space left\) and is as"):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_indented_ends_with_a_line_and_keeps_umlauts(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Möwe", "boxes": [1]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.endswith("}\n") and "\n  " in text and "Möwe" in text
    assert json.loads(text) == {"name": "Möwe", "boxes": [1]}


def test_the_digest_of_values_does_not_depend_on_the_order_of_keys() -> None:
    assert json_digest({"a": 1, "b": [2, "x"]}) == json_digest({"b": [2, "x"], "a": 1})
    assert json_digest([1, 2]) != json_digest([2, 1])


# No system counts its processes this far.
_DEAD = 99_999_999


def _leave(folder: Path, name: str) -> str:
    (folder / name).write_bytes(b"x")
    return name


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    _leave(tmp_path, f".model_0000001.pth.{_DEAD}.unfinished")  # As they were called before.
    _leave(tmp_path, f".last_checkpoint.{_DEAD}@{socket.gethostname()}.unfinished")
    old = tmp_path / _leave(tmp_path, ".a.json.7@another.host.unfinished")
    os.utime(old, (1e9, 1e9))
    kept = [
        _leave(tmp_path, "model_0000000.pth"),
        _leave(tmp_path, ".hidden"),
        _leave(tmp_path, f".model_0000002.pth.{os.getpid()}@{socket.gethostname()}.unfinished"),
        _leave(tmp_path, f".model_0000003.pth.{os.getppid()}.unfinished"),
        _leave(tmp_path, ".b.json.7@another.host.unfinished"),
        _leave(tmp_path, "unfinished"),
    ]
    remove_stale_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_stale_files(tmp_path / "nowhere")


def test_a_writer_removes_what_a_killed_writer_of_its_file_left(tmp_path):
    _leave(tmp_path, f".a [1].json.{_DEAD}.unfinished")
    other = _leave(tmp_path, f".b.json.{_DEAD}.unfinished")
    write_json(tmp_path / "a [1].json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a [1].json", other])


def test_a_file_s_digest_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "abc") == expected


def test_a_device_or_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="it is a folder, device or pipe"):
            atomic_write(tmp_path / name, lambda stream: stream.write(b"x"))
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("text", ["{", b"\xff", "[" * 100_000, b'{"a": ' * 100_000])
def test_text_that_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        load_json(text)

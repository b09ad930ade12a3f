"""Shards: what was written is found again, whatever a killed process left behind it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.labeling import shards
from distill.labeling.shards import FolderLock, ShardIndex, ShardWriter

ROWS = np.array([[1.25, 0, 10.5, 7.01, 0.51234, 2], [0, 0, 3, 4, 0.05, 0]])
EMPTY = np.zeros((0, 6))


def write(folder: Path, rank: int, *chunks: int) -> None:
    """Chunks of two images; the second one of an odd chunk can't be read."""
    writer = ShardWriter(folder, rank)
    for chunk in chunks:
        second = 'no "image", "boxes": []' if chunk % 2 else (20, 10)
        writer.append(chunk, [(10 + chunk, 5), second], [ROWS, EMPTY if chunk % 2 else ROWS[:1]])
    writer.close()


def index(folder: Path, num_chunks: int = 5) -> ShardIndex:
    result = ShardIndex(folder, num_chunks)
    result.drop_damaged_ends()
    return result


def test_chunks_come_back_in_order_from_all_shards(tmp_path: Path) -> None:
    write(tmp_path, 1, 1, 3)
    write(tmp_path, 0, 4, 0, 2)
    found = index(tmp_path)
    assert found.done().all()
    # Images, boxes, boxes above 0.5, images left out.
    assert found.counts.tolist() == [8, 3 * 3 + 2 * 2, 3 * 2 + 2 * 1, 2]
    images = list(found.images())
    assert [chunk for chunk, _ in images] == [0, 1, 2, 3, 4]
    assert images[2] == (2, [[12, 5], [20, 10]])
    assert images[3] == (3, [[13, 5], 'no "image", "boxes": []'])
    assert list(found.images(with_skipped=True)) == [images[1], images[3]]
    for chunk, (first, second) in found.boxes():
        assert np.array_equal(first, ROWS)
        assert np.array_equal(second, EMPTY if chunk % 2 else ROWS[:1])


def test_a_line_that_was_cut_short_is_dropped_and_written_again(tmp_path: Path) -> None:
    write(tmp_path, 0, 0, 1, 2)
    (shard,) = tmp_path.iterdir()
    whole = shard.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (0, 1, len(lines[2]) - 1):
        shard.write_bytes(lines[0] + lines[1] + lines[2][:kept])
        assert index(tmp_path).done().tolist() == [True, True, False, False, False]
        assert shard.read_bytes() == lines[0] + lines[1]
        write(tmp_path, 0, 2)
        assert shard.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"\0" * 30 + b"\n", b"{}\n", b'{"chunk": 1, "counts": [1]}\n'])
def test_nothing_after_a_damaged_line_is_believed(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path, 0, 0, 1, 2)
    (shard,) = tmp_path.iterdir()
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(lines[0] + damage + lines[2])
    assert index(tmp_path).done().tolist() == [True, False, False, False, False]
    assert shard.read_bytes() == lines[0]


def test_a_flipped_digit_is_noticed_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 0, 0, 1, 2)
    (shard,) = tmp_path.iterdir()
    whole = shard.read_bytes()
    shard.write_bytes(whole.replace(b"[11, 5]", b"[12, 5]"))
    assert index(tmp_path).done().tolist() == [True, False, False, False, False]
    assert "shard-0000.jsonl is damaged" in caplog.text
    write(tmp_path, 0, 1, 2)
    assert shard.read_bytes() == whole


def test_shards_of_a_release_without_checksums_are_read(tmp_path: Path) -> None:
    write(tmp_path, 0, 0, 1)
    (shard,) = tmp_path.iterdir()
    shard.write_bytes(re.sub(rb'"crc32": \d+, ', b"", shard.read_bytes()))
    found = index(tmp_path, 2)
    assert found.done().all() and len(list(found.boxes())) == 2


def test_an_index_takes_in_what_others_append(tmp_path: Path) -> None:
    found = index(tmp_path)
    assert not found.update()
    write(tmp_path, 0, 0)
    assert found.update() and found.counts[0] == 2
    write(tmp_path, 1, 3)
    write(tmp_path, 0, 4)
    # Being written just now, in the middle of a line.
    with open(tmp_path / "shard-0001.jsonl", "ab") as stream:
        stream.write(b'{"chunk": 2, "counts": [1,')
    assert found.update() and found.done().tolist() == [True, False, False, True, True]
    assert not found.update()


def test_a_shard_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, 0, 0)
    found = index(tmp_path, 1)
    (shard,) = tmp_path.iterdir()
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(ValueError, match="changed or damaged"):
        list(found.boxes())


def test_two_runs_cannot_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_PATIENCE_SECONDS", 0.2)
    code = (
        "import fcntl, sys\n"
        "stream = open(sys.argv[1], 'r+')\n"
        "fcntl.lockf(stream, fcntl.LOCK_SH)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    lock = FolderLock(tmp_path)
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert not lock.take()
        other.kill()
    assert lock.take()
    lock.share()
    lock.release()

"""Files that labeling processes append to, so that a run that was killed loses nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from distill.utils.files import load_json

__all__ = ["CONFIDENT", "FolderLock", "ShardIndex", "ShardWriter"]

_logger = logging.getLogger(__name__)
# Boxes with a higher score are counted apart.
CONFIDENT = 0.5

# All that the index needs lies at a line's beginning, so that it need not be parsed.
_HEAD = re.compile(
    rb'\{"chunk": (\d+), "counts": \[(\d+), (\d+), (\d+), (\d+)\], (?:"crc32": (\d+), )?'
)
_TAIL = b"]}\n"
# Between what is said of the images and their boxes; within a string its quotes are escaped.
_BOXES = b', "boxes": '
# Whole numbers are written and read in a third of the time.
_UNITS = np.array([100, 100, 100, 100, 100_000, 1])
# A run before may be about to end: its processes notice that their parent was killed.
_PATIENCE_SECONDS = 20


class ShardWriter:
    """Appends chunks to the file of one process; each is on disk when :meth:`append` returns."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Opens the file.

        Args:
            folder: where the files of all processes are; it is made.
            rank: number of the process.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"shard-{rank:04d}.jsonl"
        self._stream: IO[bytes] = open(self.path, "ab")

    def append(self, chunk: int, images: list[Any], boxes: list[np.ndarray]) -> None:
        """Adds a chunk.

        Args:
            chunk: its number.
            images: width and height of every image, or a text that says why it can't be read.
            boxes: for every image (B, 6): x0, y0, x1, y1 to a hundredth of a pixel, score to five
                digits, class.

        Raises:
            OSError: if it can't be written.
        """
        confident = sum(int((rows[:, 4] > CONFIDENT).sum()) for rows in boxes)
        skipped = sum(isinstance(x, str) for x in images)
        counts = [len(images) - skipped, sum(len(rows) for rows in boxes), confident, skipped]
        content = {
            "chunk": chunk,
            "counts": counts,
            "images": images,
            "boxes": [(rows * _UNITS).round().astype(np.int64).tolist() for rows in boxes],
        }
        try:
            self._stream.write(_line(content))
            self._stream.flush()
        except OSError as error:
            raise OSError(
                f"{self.path} could not be written ({error.strerror}): free disk space, then the "
                "same command continues."
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


class ShardIndex:
    """Where in the shards each chunk is, in 12 bytes a chunk.

    Attributes:
        counts: images, boxes, boxes above 0.5 and images left out, of all chunks so far.
    """

    def __init__(self, folder: Path, num_chunks: int) -> None:
        """Knows nothing until :meth:`update`.

        Args:
            folder: where the shards are, or will be.
            num_chunks: number of chunks of the whole run.
        """
        self.counts = np.zeros(4, np.int64)
        self._folder = folder
        self._paths: list[Path] = []
        self._read: list[int] = []
        self._shard = np.full(num_chunks, -1, np.int32)
        self._offset = np.zeros(num_chunks, np.int64)
        self._has_skipped: list[int] = []

    def done(self) -> np.ndarray:
        """Which chunks are there, (num_chunks,) bool."""
        return self._shard >= 0

    def update(self) -> bool:
        """Takes in what was appended since the last call; returns whether there was anything."""
        known = set(self._paths)
        new = sorted(path for path in self._folder.glob("*.jsonl") if path not in known)
        self._paths += new
        self._read += [0] * len(new)
        return any([self._update_from(number) for number in range(len(self._paths))])

    def drop_damaged_ends(self) -> None:
        """Cuts off what follows the last whole line of each shard; nobody may be writing."""
        self.update()
        for path, end in zip(self._paths, self._read, strict=True):
            if lost := path.stat().st_size - end:
                if _has_lines(path, end):
                    # Not only the line that a process that was killed was writing.
                    _logger.warning(
                        "%s is damaged: what its last %d bytes held is labeled anew.", path, lost
                    )
                os.truncate(path, end)

    def images(self, *, with_skipped: bool = False) -> Iterator[tuple[int, list[Any]]]:
        """Number and images of every chunk, in order, as they were given to the writer.

        Args:
            with_skipped: only chunks with images that are left out.

        Raises:
            ValueError: if a shard was changed.
        """
        chunks = sorted(self._has_skipped) if with_skipped else range(len(self._shard))
        for chunk, line in self._lines(chunks):
            yield chunk, _parse(line.partition(_BOXES)[0] + b"}", "images")

    def boxes(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Number of every chunk, in order, and the boxes (B, 6) of its images.

        Raises:
            ValueError: if a shard was changed.
        """
        for chunk, line in self._lines(range(len(self._shard))):
            tables = _parse(line, "boxes")
            yield chunk, [np.array(x, np.int64).reshape(-1, 6) / _UNITS for x in tables]

    def _lines(self, chunks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(open(path, "rb")) for path in self._paths]
            for chunk in chunks:
                stream = streams[self._shard[chunk]]
                stream.seek(self._offset[chunk])
                yield chunk, stream.readline()

    def _update_from(self, number: int) -> bool:
        before = offset = self._read[number]
        with open(self._paths[number], "rb") as stream:
            stream.seek(offset)
            for line in stream:
                head = _HEAD.match(line)
                if head is None or not _is_whole(line, head) or int(head[1]) >= len(self._shard):
                    break
                self._add(int(head[1]), number, offset, [int(head[i]) for i in range(2, 6)])
                offset += len(line)
        self._read[number] = offset
        return offset > before

    def _add(self, chunk: int, shard: int, offset: int, counts: list[int]) -> None:
        if self._shard[chunk] >= 0:
            return
        self._shard[chunk], self._offset[chunk] = shard, offset
        self.counts += counts
        if counts[-1]:
            self._has_skipped.append(chunk)


class FolderLock:
    """Keeps two runs from labeling into the same folder; all processes of one run share it.

    The lock ends with the process, however it ends, and child processes do not inherit it.
    """

    def __init__(self, folder: Path) -> None:
        """Opens the lock's file without taking it.

        Args:
            folder: the folder, which must exist.
        """
        self._file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)

    def take(self) -> bool:
        """Takes it alone, and waits for a run that is about to end; False if another goes on."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._try(fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def share(self) -> None:
        """Shares it with the other processes of the run, for as long as it lasts."""
        self._try(fcntl.LOCK_SH)

    def release(self) -> None:
        """Gives it back."""
        os.close(self._file)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB)
        except OSError as error:
            # Some network drives know no locks, which must not keep anybody from labeling.
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True


def _line(content: dict[str, Any]) -> bytes:
    """A chunk as a line, with a checksum of what follows it."""
    images = {key: content.pop(key) for key in ("images", "boxes")}
    rest = json.dumps(images).encode()[1:] + b"\n"
    head = json.dumps({**content, "crc32": zlib.crc32(rest)}).encode()[:-1]
    return head + b", " + rest


def _has_lines(path: Path, start: int) -> bool:
    with open(path, "rb") as stream:
        stream.seek(start)
        return stream.readline().endswith(b"\n")


def _is_whole(line: bytes, head: re.Match[bytes]) -> bool:
    if not line.endswith(_TAIL):
        return False
    if head[6] is not None:
        return zlib.crc32(line[head.end() :]) == int(head[6])
    # Of a release that wrote no checksum.
    try:
        return isinstance(load_json(line)["boxes"], list)
    except (ValueError, KeyError):
        return False


def _parse(text: bytes, key: str) -> list[Any]:
    try:
        return load_json(text)[key]
    except (ValueError, KeyError) as error:
        raise ValueError(
            "The shards were changed or damaged: delete their folder, and the same command labels "
            "the images anew."
        ) from error

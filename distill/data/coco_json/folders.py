"""Where the images are that a file names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

__all__ = ["ImageFolder"]


class ImageFolder:
    """A folder of images, which are found by the names that files have for them.

    A name may have URL escapes, and may begin with folders up to this one: for ``/data/images``
    the name ``C:/mine/images/a%20b.png`` stands for ``/data/images/a b.png``.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        """Takes a folder, which is listed when the first image is asked for."""
        self.root = os.fspath(root)
        self._listed: dict[str, set[str]] = {}

    def find(self, name: str) -> str:
        """The path of an image; as it is written where no such file is there.

        Args:
            name: its file name, with forward slashes.
        """
        path = os.path.join(self.root, name)
        if self.holds(path):
            return path
        others = (os.path.join(self.root, other) for other in _other_names(name, self.root))
        return next(filter(self.holds, others), path)

    def holds(self, path: str) -> bool:
        """Whether there is such a file; each folder is listed once."""
        folder, name = os.path.split(path)
        if folder not in self._listed:
            try:
                self._listed[folder] = set(os.listdir(folder))
            except (OSError, ValueError):  # a name that no file can have
                self._listed[folder] = set()
        return name in self._listed[folder]


def _other_names(name: str, root: str) -> Iterator[str]:
    own = PurePosixPath(os.path.abspath(root)).name
    for text in dict.fromkeys((name, unquote(name))):
        parts = [part for part in text.split("/") if part not in ("", ".")]
        yield "/".join(parts)
        for number, part in enumerate(parts[:-1], start=1):
            if part == own:
                yield "/".join(parts[number:])
    # A file may have a backslash in its name.
    yield name.replace("/", "\\")

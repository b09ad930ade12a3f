"""Images that fail when they are drawn: they travel from the workers as what they are.

An error that a worker raises reaches the training as another one, of many lines, and before its
turn: workers load ahead.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader

from distill.data.image_files import UnreadableImage
from distill.data.mapper import Record

__all__ = ["Failure", "ReadableBatches", "mapped", "with_failures"]

_logger = logging.getLogger(__name__)

# Where a sample carries the failures of those in whose place it is.
_KEY = "instead_of"


@dataclass(frozen=True)
class Failure:
    """An image that a mapper could not read.

    Attributes:
        error: what it raised.
        trace: where, as text.
    """

    error: UnreadableImage
    trace: str


def mapped(mapper: Callable[[Record], Record | None], record: Record) -> Record | Failure | None:
    """What a mapper makes of a record, or its failure to read the image."""
    try:
        return mapper(record)
    except UnreadableImage as error:
        return Failure(error, traceback.format_exc())


def with_failures(sample: Record | Failure, failures: Sequence[Failure]) -> Record | Failure:
    """A sample that carries the failures of others to :class:`ReadableBatches`."""
    return {**sample, _KEY: tuple(failures)} if failures else sample


class ReadableBatches:
    """The batches of a loader without failures, which it raises, or counts and leaves out."""

    def __init__(self, loader: DataLoader, *, skip: bool, effect: str) -> None:
        """Takes a loader.

        Args:
            loader: gives lists of samples and of failures.
            skip: leave failures out; else they are raised when their turn comes.
            effect: what becomes of a failed image, for the log: "another is in its place".
        """
        self.loader = loader
        self.skip = skip
        self.effect = effect
        self.failed: set[str] = set()

    def __len__(self) -> int:
        """Batches of the loader."""
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Record]]:
        """Yields batches; one that failures leave empty is left out too.

        Raises:
            UnreadableImage: if an image fails and is not to be skipped.
        """
        for batch in self.loader:
            kept = []
            for sample in batch:
                if isinstance(sample, Failure):
                    self._fail(sample)
                    continue
                for failure in sample.pop(_KEY, ()):
                    self._fail(failure)
                kept.append(sample)
            if kept:
                yield kept

    def _fail(self, failure: Failure) -> None:
        if not self.skip:
            # In place of the traceback, which does not leave a worker.
            raise failure.error from RuntimeError(failure.trace)
        if failure.error.path not in self.failed:
            self.failed.add(failure.error.path)
            _logger.warning(
                "%s can't be used (%s): %s; %d image(s) so far.",
                *(failure.error.path, failure.error.reason, self.effect, len(self.failed)),
            )

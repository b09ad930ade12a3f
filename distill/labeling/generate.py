"""A teacher labels images: shared by processes, resumed where it was, the same in any number."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetMapper
from detectron2.utils import comm
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from distill.data.loader import as_list, build_mapper
from distill.labeling.images import ImageListing, MappedImages, printable
from distill.labeling.job import LabelingJob
from distill.labeling.result import describe_quality, describe_result, write_result
from distill.labeling.shards import FolderLock, ShardIndex, ShardWriter
from distill.utils.distributed import from_main_process
from distill.utils.files import remove_stale_files

__all__ = ["generate", "label_images"]

# Rows (x0, y0, x1, y1, score, class) of each image of a batch.
FindBoxes = Callable[[Sequence[dict[str, Any]]], Sequence[np.ndarray]]

_NO_BOXES = np.zeros((0, 6))
_POLL_SECONDS = 1.0
_STALL_SECONDS = 1800
_logger = logging.getLogger(__name__)


def generate(job: LabelingJob) -> list[str]:
    """Labels what is not labeled yet and writes the file; to be called on all ranks.

    Returns:
        On the main process sentences on the result; [] on the others.

    Raises:
        ValueError, FileNotFoundError: one sentence, if the teacher or the folder is amiss.
        OSError: if something can't be written, or other processes have stopped.
    """
    finder = job.build_box_finder()
    mapper = build_mapper(job.cfg, is_train=False)
    lock = FolderLock(job.output)
    try:
        _take(lock, job)
        if comm.is_main_process():
            remove_stale_files(job.output)
            remove_stale_files(job.result.parent, job.result.name)
            job.claim()
        # While this one waited for the lock, another run may have come to its end.
        finished = from_main_process(job.result.exists)
        lock.share()
        if finished:
            return [describe_result(job.result)] if comm.is_main_process() else []
        index = label_images(
            job.listing,
            mapper,
            finder,
            job.shards,
            batch_size=job.batch_size,
            num_workers=job.num_workers,
        )
        if index is None:
            return []
        quality = describe_quality(job, index)
        write_result(job, index)
        # Only now: until the file is in place, they are all there is.
        shutil.rmtree(job.shards, ignore_errors=True)
        return [describe_result(job.result), *([quality] if quality else [])]
    finally:
        lock.release()


def label_images(
    listing: ImageListing,
    mapper: DatasetMapper,
    find_boxes: FindBoxes,
    folder: Path,
    *,
    batch_size: int,
    num_workers: int,
) -> ShardIndex | None:
    """Labels the images that no shard has yet; to be called on all ranks.

    A chunk of the images is always the same batch, whoever labels it, so that the boxes depend
    neither on interruptions nor on the number of ranks.

    Args:
        listing: the images.
        mapper: the teacher's, for tests.
        find_boxes: what finds boxes in a batch.
        folder: of the shards.
        batch_size: images of a batch.
        num_workers: processes that read images, for each rank.

    Returns:
        Where all chunks are, on the main process, which waits for the others; None on the others.

    Raises:
        OSError: if a shard can't be written, the images' folder is gone, or other ranks have
            stopped.
    """
    index = ShardIndex(folder, -(-len(listing) // batch_size))
    if comm.is_main_process():
        index.drop_damaged_ends()
    done = from_main_process(index.done)
    chunks = np.flatnonzero(~done)[comm.get_rank() :: comm.get_world_size()]
    batches = _Batches(chunks, batch_size, len(listing))
    loader = DataLoader(
        MappedImages(listing, mapper),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=as_list,
    )
    writer = ShardWriter(folder, comm.get_rank())
    try:
        with _Progress(index, len(listing)) as progress:
            for chunk, batch in zip(map(int, chunks), loader, strict=True):
                writer.append(chunk, *_label(batch, find_boxes, listing))
                progress.update()
            progress.wait()
    finally:
        writer.close()
    return index if comm.is_main_process() else None


def _take(lock: FolderLock, job: LabelingJob) -> None:
    """Takes the lock on the main process; all ranks wait for it, or stop if it is not to be had.

    They meet now and then, since no time limit of theirs would outlast another run.
    """
    waits = False
    while not from_main_process(lock.take):
        if not job.waits_for_others:
            raise ValueError(
                f"Another process labels into {job.output}: wait until it is done, stop it, or "
                "choose another --output."
            )
        if not waits:
            _logger.info("Another run labels into %s: this one waits for it.", job.output)
        waits = True


def _label(
    batch: list[dict[str, Any]], find_boxes: FindBoxes, listing: ImageListing
) -> tuple[list[Any], list[np.ndarray]]:
    """Sizes, or reasons for the lack of one, and boxes of a batch."""
    found = iter(find_boxes([x for x in batch if "reason" not in x]))
    images: list[Any] = []
    boxes = []
    for image in batch:
        if "reason" in image:
            _leave_out(image, listing.root)
        images.append(image.get("reason") or (image["width"], image["height"]))
        boxes.append(_NO_BOXES if "reason" in image else next(found))
    return images, boxes


def _leave_out(image: dict[str, Any], root: str) -> None:
    if not os.path.isdir(root):
        raise FileNotFoundError(
            f"The folder {root} is no longer there: bring it back, then the same command continues."
        )
    _logger.warning("%s is left out: %s.", printable(image["file_name"]), image["reason"])


class _Batches(Sampler):
    """The numbers of the images of each chunk."""

    def __init__(self, chunks: np.ndarray, batch_size: int, num_images: int) -> None:
        self.chunks = chunks
        self.batch_size = batch_size
        self.num_images = num_images

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[range]:
        # No list of them all, which would be larger than all else that is kept.
        for chunk in self.chunks:
            start = int(chunk) * self.batch_size
            yield range(start, min(start + self.batch_size, self.num_images))


class _Progress:
    """The main process' bar, which counts what all processes have written."""

    def __init__(self, index: ShardIndex, num_images: int) -> None:
        self._index = index
        self._bar = tqdm(
            total=num_images,
            initial=self._images(),
            unit="img",
            disable=not comm.is_main_process(),
            # A log file gets a line now and then.
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )
        self._looked = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self) -> None:
        """Looks at the shards, once a second."""
        if not self._bar.disable and time.monotonic() - self._looked > _POLL_SECONDS:
            self._look()

    def wait(self) -> None:
        """Waits until all chunks are there; nothing to do on the other processes.

        There is no barrier, whose time limit a process that is far behind would exceed.
        """
        grown = time.monotonic()
        while not self._bar.disable:
            if self._look():
                grown = time.monotonic()
            if self._index.done().all():
                return
            if time.monotonic() - grown > _STALL_SECONDS:
                raise OSError(
                    "The other processes have labeled nothing for half an hour: stop them, then "
                    "the same command continues."
                )
            time.sleep(0.2)

    def _look(self) -> bool:
        grown = self._index.update()
        self._bar.update(self._images() - self._bar.n)
        self._looked = time.monotonic()
        return grown

    def _images(self) -> int:
        return int(self._index.counts[0] + self._index.counts[3])

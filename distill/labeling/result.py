"""Shards as one file of pseudo labels, and what there is to say about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from detectron2.data import DatasetCatalog

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.pseudo.writing import annotations, write_pseudo_file
from distill.labeling.images import printable
from distill.labeling.job import LabelingJob
from distill.labeling.matching import compare
from distill.labeling.shards import CONFIDENT, ShardIndex
from distill.labeling.sources import true_labels
from distill.utils.files import load_json

__all__ = ["describe_quality", "describe_result", "percent", "write_result"]

_T = TypeVar("_T")
# Matching boxes with labels needs memory for each of them.
_MEASURED_IMAGES = 5000


def write_result(job: LabelingJob, index: ShardIndex) -> None:
    """Writes the file of pseudo labels from complete shards, a few lines at a time.

    Raises:
        ValueError: if a shard was changed.
        OSError: if it can't be written.
    """
    images, boxes, confident, skipped = index.counts.tolist()
    info = {
        **job.header(),
        "counts": {"images": images, "boxes": boxes, "skipped": skipped},
        "boxes_above_0.5": confident,
        "skipped": [
            {"file_name": printable(job.listing[number][0]), "reason": reason}
            for number, reason in _numbered(job, index.images(with_skipped=True))
            if isinstance(reason, str)
        ],
    }
    write_pseudo_file(
        job.result, info, _images(job, index), job.class_names, _annotations(job, index)
    )


def describe_result(path: Path) -> str:
    """A sentence on a file that :func:`write_result` wrote; only its first line is read.

    Raises:
        ValueError: one sentence, if that is damaged.
    """
    with open(path, "rb") as stream:
        line = stream.readline().strip().rstrip(b",") + b"}"
    try:
        info = load_json(line)["info"]
        counts = info["counts"]
        above = info["boxes_above_0.5"] / max(counts["images"], 1)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged: delete it, and the same command makes it anew."
        ) from error
    return (
        f"{path}: {counts['images']} images, {counts['boxes']} boxes ({above:.2f} an image above "
        f"{CONFIDENT}), {counts['skipped']} images left out."
    )


def describe_quality(job: LabelingJob, index: ShardIndex) -> str | None:
    """Precision and recall of the boxes above 0.5, or None where no labels are known."""
    name = job.listing.dataset
    if name is None:
        return None
    records = list(DatasetCatalog.get(name))[:_MEASURED_IMAGES]
    truth = true_labels(name, records)
    if truth is None:
        return None
    quality = compare(_confident(job, index, len(records)), truth).quality
    part = f" in the first {len(records)} images" if len(records) < len(job.listing) else ""
    return (
        f"Boxes above {CONFIDENT}{part}: precision {percent(quality.precision)}, recall "
        f"{percent(quality.recall)} at IoU 0.5."
    )


def percent(share: float | None) -> str:
    """A share as a reader takes it."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _confident(job: LabelingJob, index: ShardIndex, num_images: int) -> PseudoFile:
    """The first images with their boxes above 0.5."""
    tables = []
    for number, rows in itertools.islice(_numbered(job, index.boxes()), num_images):
        rows = rows[rows[:, 4] > CONFIDENT]
        tables.append(np.insert(rows, 0, number, axis=1))
    table = np.concatenate(tables)
    image, classes = table[:, 0].astype(np.int64), table[:, 6].astype(np.int64)
    labels = PseudoLabels(image, table[:, 1:5], table[:, 5], classes)
    names = (job.listing[number] for number in range(num_images))
    images = [{"id": image_id, "file_name": name} for name, image_id in names]
    return PseudoFile({}, images, job.class_names, (job.teacher,), labels)


def _numbered(
    job: LabelingJob, chunks: Iterable[tuple[int, Sequence[_T]]]
) -> Iterator[tuple[int, _T]]:
    """What chunks hold of each image, by its number."""
    for chunk, items in chunks:
        yield from enumerate(items, start=chunk * job.batch_size)


def _images(job: LabelingJob, index: ShardIndex) -> Iterator[dict[str, Any]]:
    for number, size in _numbered(job, index.images()):
        if not isinstance(size, str):
            name, image_id = job.listing[number]
            yield {"id": image_id, "file_name": name, "width": size[0], "height": size[1]}


def _annotations(job: LabelingJob, index: ShardIndex) -> Iterator[dict[str, Any]]:
    teachers = itertools.repeat(job.teacher)
    for number, rows in _numbered(job, index.boxes()):
        if len(rows):
            yield from annotations(itertools.repeat(job.listing[number][1]), rows, teachers)

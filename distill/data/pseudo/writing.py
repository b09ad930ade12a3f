"""Writes files of pseudo labels, whatever their size, piece by piece."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from distill.data.pseudo.labels import PIXEL_DIGITS, SCORE_DIGITS
from distill.utils.files import atomic_write
from distill.utils.version import VERSION

__all__ = ["annotations", "file_header", "write_pseudo_file"]

# One encoder for all: to make one takes longer than a box does.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def file_header(
    description: str, *, dataset: str | None, image_root: str, **rest: Any
) -> dict[str, Any]:
    """A header as :func:`write_pseudo_file` takes it.

    Args:
        description: what the file holds, for whoever opens it.
        dataset: the registered dataset that the images are of, or None.
        image_root: the folder that the images' file names start from.
        rest: what else is to be known; plain values.
    """
    first = {"description": description, "format": 1, "library": VERSION}
    return {**first, "dataset": dataset, "image_root": image_root, **rest}


def annotations(
    image_ids: Iterable[Any],
    rows: np.ndarray,
    teachers: Iterable[str],
    *,
    category_ids: Sequence[int | str] | None = None,
    crowd: int = 0,
) -> Iterator[dict[str, Any]]:
    """Boxes as :func:`write_pseudo_file` takes them.

    Args:
        image_ids: id of each box' image.
        rows: (B, 6) corners x0, y0, x1, y1 in pixels of the image on disk, score in [0, 1], and
            class, a place in the class names.
        teachers: name of what found each box.
        category_ids: that of each class; None counts them from 1.
        crowd: 1 for areas of many objects.
    """
    sizes = rows[:, 2:4] - rows[:, :2]
    boxes = np.concatenate([rows[:, :2], sizes], axis=1).round(PIXEL_DIGITS)
    areas = (boxes[:, 2] * boxes[:, 3]).round(PIXEL_DIGITS)
    columns = (boxes, areas, rows[:, 4].round(SCORE_DIGITS), rows[:, 5].astype(int) + 1)
    # Both names may go on for ever.
    found = zip(*(column.tolist() for column in columns), image_ids, teachers, strict=False)
    for box, area, score, category, image_id, teacher in found:
        yield {
            "image_id": image_id,
            "category_id": category if category_ids is None else category_ids[category - 1],
            "bbox": box,
            "area": area,
            "iscrowd": crowd,
            "score": score,
            "teacher": teacher,
        }


def write_pseudo_file(
    path: str | Path,
    info: dict[str, Any],
    images: Iterable[dict[str, Any]],
    classes: Sequence[str | dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
    *,
    kept: Iterable[dict[str, Any]] = (),
    first_id: int = 1,
    rest: Mapping[str, Any] | None = None,
) -> None:
    """Writes a file of pseudo labels piece by piece, whole or not at all.

    Equal arguments make equal bytes.

    Args:
        path: the file; its folder is made.
        info: the header; plain values.
        images: id, file_name, width and height of each, and what else is known; may be a generator.
        classes: names of the classes, or their categories.
        annotations: as they come from :func:`annotations`; may be a generator.
        kept: annotations that are written as they are, before those.
        first_id: the first id of those.
        rest: the file's other keys.

    Raises:
        ValueError: one sentence, if something is no finite number.
        OSError: if it can't be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [
        {"id": i, "name": x} if isinstance(x, str) else x for i, x in enumerate(classes, start=1)
    ]
    boxes = (_box_text(i, x) for i, x in enumerate(annotations, start=first_id))
    texts = {"images": map(_dump, images), "annotations": chain(map(_dump, kept), boxes)}

    def write(stream: IO[bytes]) -> None:
        stream.write(b'{"info": ' + _dump(info))
        for key, value in (rest or {}).items():
            stream.write(b",\n" + _dump(key) + b": " + _dump(value))
        stream.write(b',\n"categories": ' + _dump(categories))
        for key, items in texts.items():
            stream.write(f',\n"{key}": ['.encode())
            for number, text in enumerate(items):
                stream.write((b",\n" if number else b"\n") + text)
            stream.write(b"]")
        stream.write(b"}\n")

    try:
        atomic_write(path, write)
    except ValueError as error:
        raise ValueError(f"{path} can't be written: {error}") from error


def _dump(value: Any) -> bytes:
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:  # half a character, which only an escape can stand for
        return json.dumps(value, allow_nan=False).encode()
    except ValueError as error:
        raise ValueError(
            f"{str(value):.80} has a number that is not finite: correct it where it is read from."
        ) from error


@functools.lru_cache(maxsize=16, typed=True)
def _quoted(value: int | str) -> str:
    return _dump(value).decode()


def _box_text(number: int, box: dict[str, Any]) -> bytes:
    """What json makes of an annotation, in half the time: a file may have millions of boxes."""
    x, y, width, height = box["bbox"]
    area, score = box["area"], box["score"]
    if not math.isfinite(x + y + area + score):
        raise ValueError(
            f"Box {number} of image {box['image_id']!r} is not finite, and so not JSON compliant."
        )
    return (
        f'{{"id": {number}, "image_id": {_quoted(box["image_id"])}, '
        f'"category_id": {_quoted(box["category_id"])}, "bbox": [{x}, {y}, {width}, {height}], '
        f'"area": {area}, "iscrowd": {box["iscrowd"]}, "score": {score}, '
        f'"teacher": {_quoted(box["teacher"])}}}'
    ).encode()

"""The images of distill.labeling.view's page: rows of boxes, and where their files are."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.matching import match_boxes
from distill.labeling.sources import match_images
from distill.utils.page import image_uri

__all__ = ["image_source", "page_images"]

_PIXEL_DIGITS = 2
_SCORE_DIGITS = 5
# Of the formats that browsers show, by the end of a file's name.
_MEDIA_TYPES = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}


def page_images(
    pseudo: PseudoFile,
    chosen: Sequence[int],
    class_names: Sequence[str],
    labels: PseudoFile | None = None,
    crowds: PseudoLabels | None = None,
) -> list[dict[str, Any]]:
    """Some images of a file as the page's script takes them.

    Args:
        pseudo: the file.
        chosen: numbers of its images.
        class_names: those of the page, which has all classes of `pseudo` and `labels`.
        labels: true labels.
        crowds: crowds in the images of `labels`; a box in one is neither right nor wrong.

    Returns:
        Of each image `name`, `width`, `height`, `boxes` and `labels`, which is None where it is
        not known what there is. A box is a row of corners, score, place of its class and of its
        teacher, and 1 if it finds a label, 0 if not and None if that is not known.

    Raises:
        ValueError: the labels are of other images.
    """
    place = {name: i for i, name in enumerate(class_names)}
    found = _renumbered(pseudo.labels, np.asarray(chosen), pseudo, place)
    number_of = match_images(pseudo, labels) if labels else np.full(len(pseudo.images), -1)
    if labels and (number_of < 0).all():
        raise ValueError(
            "The labels and the pseudo labels have no image id in common: give the labels of the "
            "same images."
        )
    true_images = number_of[chosen]
    right: list[int | None] = [None] * len(found)
    if labels:
        truth = _renumbered(labels.labels, true_images, labels, place)
        if crowds is not None:
            crowds = _renumbered(crowds, true_images, labels, place)
        matches = match_boxes(found, truth, crowds=crowds)
        known = matches.counted & (true_images >= 0)[found.image]
        right = [int(x) if y else None for x, y in zip(matches.right, known, strict=True)]
    entries = [
        {
            "name": str(pseudo.images[number]["file_name"]),
            "width": pseudo.images[number]["width"],
            "height": pseudo.images[number]["height"],
            "boxes": [],
            "labels": None if true_image < 0 else [],
        }
        for number, true_image in zip(chosen, true_images.tolist(), strict=True)
    ]
    for image, row, flag in zip(found.image.tolist(), _rows(found), right, strict=True):
        entries[image]["boxes"].append([*row, flag])
    if labels:
        for image, row in zip(truth.image.tolist(), _rows(truth), strict=True):
            entries[image]["labels"].append(row)
    return entries


def _renumbered(
    labels: PseudoLabels, numbers: np.ndarray, source: PseudoFile, place: dict[str, int]
) -> PseudoLabels:
    """The boxes in the images of these numbers, -1 for none, numbered by their order."""
    position = np.full(len(source.images), -1)
    (there,) = np.nonzero(numbers >= 0)
    position[numbers[there]] = there
    places = np.array([place[name] for name in source.class_names], dtype=np.int64)
    kept = labels.select(position[labels.image] >= 0)
    moved = PseudoLabels(
        position[kept.image], kept.boxes, kept.scores, places[kept.classes], kept.teacher
    )
    return moved.select(np.argsort(moved.image, kind="stable"))


def _rows(labels: PseudoLabels) -> list[list[float]]:
    teacher = np.zeros(len(labels), int) if labels.teacher is None else labels.teacher
    columns = (
        labels.boxes.round(_PIXEL_DIGITS),
        labels.scores.round(_SCORE_DIGITS),
        labels.classes,
        teacher,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [[*box, *others] for box, *others in rows]


def image_source(path: Path, folder: Path, embed: bool) -> str | None:
    """What a page refers to an image by.

    Args:
        path: the image; it exists.
        folder: where the page is.
        embed: put the image into the page; images that browsers don't show always are, as PNG.

    Returns:
        A relative or data URI, None where the file can't be read. On another drive than the page
        it is a file URI.
    """
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    try:
        if media_type is None:
            with Image.open(path) as image:
                return image_uri(image.convert("RGB"))
        if embed:
            return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
    except (OSError, ValueError):
        return None
    try:
        return quote(os.fsencode(Path(os.path.relpath(path, folder)).as_posix()))
    except ValueError:
        return path.absolute().as_uri()

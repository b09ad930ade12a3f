"""The images of distill.labeling.view's page: rows of boxes, and where their files are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from distill.data.coco_json.folders import ImageFolder
from distill.data.image_files.reading import image_formats, read_image
from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PIXEL_DIGITS, SCORE_DIGITS, PseudoLabels
from distill.labeling.matching import compare
from distill.labeling.same_images import match_images
from distill.utils.page import data_uri, image_uri

__all__ = ["image_source", "page_images", "path_below"]

# Of the formats that browsers show, by Pillow's name.
_MEDIA_TYPES = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
}


def page_images(
    pseudo: PseudoFile,
    chosen: Sequence[int],
    class_names: Sequence[str],
    labels: PseudoFile | None = None,
) -> list[dict[str, Any]]:
    """Some images of a file as the page's script takes them.

    Args:
        pseudo: the file.
        chosen: numbers of its images, ascending.
        class_names: those of the page, which has all classes of `pseudo` and `labels`.
        labels: true labels; a box in one of their crowds is neither right nor wrong.

    Returns:
        Of each image `name`, `width`, `height`, `boxes` and `labels`, which is None where it is
        not known what there is. A box is a row of corners, score, place of its class and of its
        teacher, and 1 if it finds a label, 0 if not and None if that is not known.

    Raises:
        ValueError: the labels are of other images.
    """
    shown = pseudo.select_images(np.asarray(chosen)).in_classes(class_names)
    entries = [
        {
            "name": str(image["file_name"]),
            "width": image["width"],
            "height": image["height"],
            "boxes": [],
            "labels": None,
        }
        for image in shown.images
    ]
    right: list[int | None] = [None] * len(shown.labels)
    if labels:
        right = _compare(pseudo, shown, labels.in_classes(class_names), entries)
    for image, row, flag in _rows(shown.labels, right):
        entries[image]["boxes"].append([*row, flag])
    return entries


def _compare(
    pseudo: PseudoFile, shown: PseudoFile, labels: PseudoFile, entries: list[dict[str, Any]]
) -> list[int | None]:
    """Adds the labels to the entries; returns which of the boxes are right."""
    if (match_images(pseudo, labels) < 0).all():
        raise ValueError(
            "The labels and the pseudo labels have no image id in common: give the labels of the "
            "same images."
        )
    compared = compare(shown, labels)
    for entry, labeled in zip(entries, compared.labeled.tolist(), strict=True):
        entry["labels"] = [] if labeled else None
    for image, row, _ in _rows(compared.objects, [None] * len(compared.objects)):
        entries[image]["labels"].append(row)
    known = compared.counted & compared.labeled[shown.labels.image]
    return [int(x) if y else None for x, y in zip(compared.right, known, strict=True)]


def _rows(
    labels: PseudoLabels, flags: Sequence[int | None]
) -> Iterator[tuple[int, list[float], int | None]]:
    """Of every box the number of its image, its row, and its flag."""
    columns = (
        labels.image,
        labels.boxes.round(PIXEL_DIGITS),
        labels.scores.round(SCORE_DIGITS),
        labels.classes,
        labels.teacher,
    )
    rows = zip(*(column.tolist() for column in columns), flags, strict=True)
    for image, box, score, category, teacher, flag in rows:
        yield image, [*box, score, category, teacher], flag


def path_below(folder: ImageFolder, name: str) -> Path:
    """An image's path, which must lie in its folder, after links and ".." too.

    Args:
        folder: the folder.
        name: the image's name in a file of labels, which anybody may have written.

    Raises:
        ValueError: one sentence, if it leads elsewhere.
    """
    path, real = Path(folder.find(name)), os.path.realpath(folder.root)
    target = name if "\0" in name else os.path.realpath(path)
    if not os.path.isabs(target) or os.path.commonpath([real, target]) != real:
        raise ValueError(
            f"The image {name!r} leads to {target}, which is not below {real}: correct its "
            "file_name, or give the folder that holds all images with --image-root."
        )
    return path


def image_source(path: Path, folder: Path, embed: bool) -> str | None:
    """What a page refers to an image by.

    Args:
        path: the file; it exists.
        folder: where the page is.
        embed: put the image into the page; images that browsers don't show always are, as PNG.

    Returns:
        A relative or data URI, None where the file is no image that can be read. On another drive
        than the page it is a file URI.
    """
    try:
        with Image.open(path, formats=image_formats()) as image:
            media_type = _MEDIA_TYPES.get(image.format or "")
            if media_type is None:
                return image_uri(Image.fromarray(read_image(str(path), "RGB")))
        if embed:
            return data_uri(media_type, path.read_bytes())
    except Exception:  # whatever is wrong with a file must not stop the others
        return None
    try:
        return quote(os.fsencode(Path(os.path.relpath(path, folder)).as_posix()))
    except ValueError:
        return path.absolute().as_uri()

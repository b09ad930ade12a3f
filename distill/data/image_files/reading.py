"""The one way in which pixels are read: to train, to evaluate, and by a teacher that labels."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = [
    "UnreadableImage",
    "image_formats",
    "read_image",
    "read_record",
    "reason_of",
    "refuse_what_is_no_file",
    "size_mismatch",
]


class UnreadableImage(ValueError):
    """An image file that can't be used; its text says which, why, and what to do.

    Attributes:
        path: the file.
        reason: why, in a few words.
    """

    # Torch's loader makes an error of a worker anew of its text alone.
    def __init__(self, path: str, reason: str = "") -> None:
        """Takes what is wrong with a file."""
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """One sentence."""
        if not self.reason:
            return self.path
        return (
            f"The image {self.path} can't be used ({self.reason}): replace it or remove it from "
            "its dataset, or set DATALOADER.SKIP_UNREADABLE to True"
        )


def read_image(path: str, format: str) -> np.ndarray:
    """Reads an image as Detectron2 does, turned as its EXIF data say, but scales 16 bits to 8.

    Detectron2 cuts off all that is brighter than 255. It also turns a TIFF twice, where Pillow
    does so too.

    Args:
        path: the file, or an address that Detectron2's PathManager knows.
        format: a mode of PIL, "BGR" or "YUV-BT.601".

    Returns:
        (H, W, C) pixels, 0-255.

    Raises:
        UnreadableImage: if it is missing, no image, or damaged.
    """
    try:
        refuse_what_is_no_file(path)
        with (
            PathManager.open(path, "rb") as stream,
            Image.open(stream, formats=image_formats()) as image,
        ):
            deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
            # First of all: Pillow turns a TIFF by itself, and looks for a PNG's EXIF data here.
            image.load()
            # Detectron2, too, takes an image whose EXIF data are damaged as it is.
            with contextlib.suppress(Exception):
                ImageOps.exif_transpose(image, in_place=True)
            if deep:
                pixels = np.asarray(image).astype(np.float64) / 257
                image = Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
            return convert_PIL_to_numpy(image, format)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise UnreadableImage(path, reason_of(error, path)) from error


def read_record(record: dict[str, Any], format: str) -> np.ndarray:
    """Reads the image of a record in Detectron2's format, and adds a size that it lacks.

    Args:
        record: its "file_name" is read; "width" and "height" are set.
        format: see :func:`read_image`.

    Returns:
        (H, W, C) pixels, 0-255.

    Raises:
        UnreadableImage: if the image can't be read, or has another size than the record.
        ValueError: if the record names no file.
    """
    if "file_name" not in record:
        raise ValueError(
            f"The record of image {record.get('image_id')!r} has no file_name: add it to its "
            "dataset."
        )
    pixels = read_image(record["file_name"], format)
    height, width = pixels.shape[:2]
    if reason := size_mismatch(record, (width, height)):
        raise UnreadableImage(record["file_name"], reason)
    record.setdefault("width", width)
    record.setdefault("height", height)
    return pixels


def refuse_what_is_no_file(path: str) -> None:
    """Refuses folders, and pipes and devices, which may be read for ever.

    Raises:
        OSError: if there is something else than a file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("it is no file")


@functools.cache
def image_formats() -> tuple[str, ...]:
    """Formats that Pillow itself reads: for EPS it starts a program on the file."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def size_mismatch(record: dict[str, Any], size: tuple[int, int]) -> str:
    """In a few words how a record's width and height differ from an image's; "" if they don't."""
    said = record.get("width", size[0]), record.get("height", size[1])
    if said == size:
        return ""
    return f"it has {size[0]}x{size[1]} pixels, but its record says {said[0]}x{said[1]}"


def reason_of(error: Exception, path: str) -> str:
    """Why an image can't be read, in a few words without its path."""
    if isinstance(error, UnreadableImage):
        return error.reason
    if isinstance(error, UnidentifiedImageError):
        return "it is no image, or of a format that Pillow does not read"
    if isinstance(error, UnicodeEncodeError):
        return "its name is no valid UTF-8"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = (str(error).splitlines() or [""])[0].replace(path, os.path.basename(path)).rstrip(".")
    return text or type(error).__name__

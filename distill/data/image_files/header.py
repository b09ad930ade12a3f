"""The size of an image from its file's first bytes."""

from __future__ import annotations

import contextlib

from PIL import ExifTags, Image

from distill.data.image_files.reading import image_formats, refuse_what_is_no_file

__all__ = ["size_in_header"]

# Orientations that swap width and height.
_LYING = (5, 6, 7, 8)


def size_in_header(path: str) -> tuple[int, int]:
    """Width and height as `read_image` gives them, turned by EXIF data, without decoding pixels.

    EXIF data behind a PNG's pixels, where few programs put them, are not looked for.

    Args:
        path: the file.

    Raises:
        Exception: of many types, if it is missing or no image.
    """
    refuse_what_is_no_file(path)
    with Image.open(path, formats=image_formats()) as image:
        width, height = image.size
        orientation = None
        # Pillow itself turns a TIFF, whose size it gives accordingly. Damaged data turn nothing.
        if image.format != "TIFF":
            with contextlib.suppress(Exception):
                # That of a PNG would decode it.
                orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        return (height, width) if orientation in _LYING else (width, height)

"""The size of an image is known without its pixels, as reading gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.image_files import read_image
from distill.data.image_files.header import size_in_header


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "gif", "bmp"])
def test_the_header_tells_the_size_that_reading_gives(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path, exif = str(tmp_path / f"x.{suffix}"), Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(path, exif=exif)
    height, width, _ = read_image(path, "RGB").shape
    assert size_in_header(path) == (width, height)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pixels_are_not_looked_at(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:900])
    assert size_in_header(str(path)) == (120, 90)

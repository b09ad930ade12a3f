"""Draws one image of the digits dataset: handwritten digits pasted on a crop of a photograph.

Nothing here touches the disk or a global random state: an image is a function of its generator
and of the digits and photographs it may use.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["IMAGE_SIZE", "LabeledBox", "Sources", "load_sources", "render_image"]

# Height and width of every image, in pixels.
IMAGE_SIZE = 96
_MAX_DIGITS = 4
_CELL_HEIGHT = (24.0, 52.0)
_CELL_ASPECT = (0.8, 1.1)
_MAX_ROTATION = 12.0
# Side of the photograph's crop relative to its shorter side.
_CROP_SCALE = (0.4, 1.0)
# A pixel belongs to the digit's tight box where its opacity exceeds this.
_BOX_OPACITY = 0.35
# Least distance, in gray levels, of a digit's mean color from the photograph behind it.
_MIN_CONTRAST = 70.0
_NOISE_SIGMA = 5.0
# Of the negative images, in pixels.
_BLUR_SIGMA = 1.5
_PLACEMENT_TRIES = 20
# load_digits gives 8x8 images of 17 gray levels; a rim of one pixel keeps strokes from being cut.
_DIGIT_SIZE = 8
_DIGIT_MAX = 16.0
_DIGIT_RIM = 1


class Sources(NamedTuple):
    """What the images of one split are made of.

    Attributes:
        digits: (D, 8, 8) float array, 0 (paper) to 16 (ink).
        labels: (D,) integer array, the digit each one shows.
        photos: RGB photographs.
    """

    digits: np.ndarray
    labels: np.ndarray
    photos: list[Image.Image]


class LabeledBox(NamedTuple):
    """A digit in an image: its box in pixels, end-exclusive, and the digit it shows."""

    x0: int
    y0: int
    x1: int
    y1: int
    label: int


def load_sources(digit_range: tuple[int, int], photos: tuple[str, ...]) -> Sources:
    """Reads digits and photographs out of the installed scikit-learn and scikit-image.

    Args:
        digit_range: first (inclusive) and last (exclusive) index into ``load_digits``.
        photos: names as ``<package>:<name>``, where the package is ``sklearn`` (an argument of
            ``load_sample_image``) or ``skimage`` (a function of ``skimage.data``).

    Returns:
        The sources of one split.

    Raises:
        ImportError: scikit-learn or scikit-image is not installed.
    """
    try:
        import skimage.data
        import sklearn.datasets
    except ImportError as error:
        raise ImportError(
            "The digits datasets are made from scikit-learn and scikit-image, of which "
            f"{error.name} is missing: pip install 'detectron2-distill[demo]'."
        ) from error

    readers = {
        "sklearn": sklearn.datasets.load_sample_image,
        "skimage": lambda name: getattr(skimage.data, name)(),
    }
    images = []
    for photo in photos:
        package, name = photo.split(":")
        pixels = readers[package](name)
        # Stereo pairs come as (left, right, disparity): one view is enough.
        pixels = pixels[0] if isinstance(pixels, tuple) else pixels
        images.append(Image.fromarray(np.asarray(pixels)).convert("RGB"))
    digits = sklearn.datasets.load_digits()
    chosen = slice(*digit_range)
    return Sources(digits.images[chosen], digits.target[chosen], images)


def render_image(
    rng: np.random.Generator, sources: Sources, *, negative: bool = False
) -> tuple[np.ndarray, list[LabeledBox]]:
    """Draws one to four digits that do not overlap on a crop of a photograph.

    Args:
        rng: the only source of randomness.
        sources: digits and photographs to choose from.
        negative: blur the image and turn it into its negative before the noise is added.

    Returns:
        The image, (96, 96, 3) uint8 in RGB order, and the box of each digit.
    """
    canvas = _crop_photo(rng, sources.photos[rng.integers(len(sources.photos))])
    boxes: list[LabeledBox] = []
    for _ in range(rng.integers(1, _MAX_DIGITS + 1)):
        index = rng.integers(len(sources.digits))
        opacity = _warp_digit(rng, sources.digits[index])
        corner = _place(rng, opacity.shape, boxes)
        if corner is None:
            continue
        (x0, y0), (height, width) = corner, opacity.shape
        _paint(rng, canvas[y0 : y0 + height, x0 : x0 + width], opacity)
        boxes.append(LabeledBox(x0, y0, x0 + width, y0 + height, int(sources.labels[index])))
    if negative:
        sharp = Image.fromarray(canvas.clip(0, 255).round().astype(np.uint8))
        canvas = 255.0 - np.asarray(sharp.filter(ImageFilter.GaussianBlur(_BLUR_SIGMA)))
    canvas = canvas + rng.normal(0.0, _NOISE_SIGMA, canvas.shape)
    return canvas.clip(0, 255).round().astype(np.uint8), boxes


def _crop_photo(rng: np.random.Generator, photo: Image.Image) -> np.ndarray:
    """A random square of the photograph, perhaps mirrored, as (96, 96, 3) float64."""
    side = min(photo.size) * rng.uniform(*_CROP_SCALE)
    left = rng.uniform(0, photo.width - side)
    top = rng.uniform(0, photo.height - side)
    crop = photo.resize(
        (IMAGE_SIZE, IMAGE_SIZE),
        Image.Resampling.BILINEAR,
        box=(left, top, left + side, top + side),
        reducing_gap=2.0,
    )
    pixels = np.asarray(crop, dtype=np.float64)
    # The digits are drawn afterwards, so mirroring here never turns one into another.
    return np.array(pixels[:, ::-1] if rng.random() < 0.5 else pixels)


def _warp_digit(rng: np.random.Generator, digit: np.ndarray) -> np.ndarray:
    """Opacity in [0, 1] of the digit, enlarged, rotated and cropped to its tight box, (h, w)."""
    scale = rng.uniform(*_CELL_HEIGHT) / _DIGIT_SIZE
    padded = np.pad(digit, _DIGIT_RIM).astype(np.float32) / _DIGIT_MAX
    height, width = padded.shape
    size = (round(width * scale * rng.uniform(*_CELL_ASPECT)), round(height * scale))
    cubic = Image.Resampling.BICUBIC
    image = Image.fromarray(padded).resize(size, cubic)
    image = image.rotate(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION), cubic, expand=True)
    opacity = np.asarray(image, dtype=np.float64).clip(0.0, 1.0)
    rows = np.flatnonzero((opacity > _BOX_OPACITY).any(axis=1))
    columns = np.flatnonzero((opacity > _BOX_OPACITY).any(axis=0))
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(
    rng: np.random.Generator, shape: tuple[int, ...], taken: list[LabeledBox]
) -> tuple[int, int] | None:
    """Top left corner (x, y) of a free place for a box of this (h, w), or None if none is found."""
    height, width = shape
    for _ in range(_PLACEMENT_TRIES):
        x = int(rng.integers(IMAGE_SIZE - width + 1))
        y = int(rng.integers(IMAGE_SIZE - height + 1))
        if all(x >= b.x1 or x + width <= b.x0 or y >= b.y1 or y + height <= b.y0 for b in taken):
            return x, y
    return None


def _paint(rng: np.random.Generator, patch: np.ndarray, opacity: np.ndarray) -> None:
    """Blends a flat color that stands out from the patch into it, in place; (h, w, 3), (h, w)."""
    background = patch.mean()
    while True:
        color = rng.uniform(0, 255, size=3)
        if abs(color.mean() - background) > _MIN_CONTRAST:
            break
    patch += opacity[..., None] * (color - patch)

"""Single digits cut out of images like those of the built-in dataset, sorted by class.

For the pre-training of backbones on a CPU: 48x48 pixels at the detectors' own scale, laid out as
torchvision's ImageFolder expects, ``<root>/train/<digit>/*.png`` and ``<root>/val/<digit>/*.png``.
Each split draws on the digits and photographs of the built-in dataset's split of the same name,
so that nothing of validation and test occurs in training.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from iopath.common.file_io import file_lock
from PIL import Image
from tqdm import tqdm

from distill.data.digits import CLASSES, SPLITS, Split, default_root
from distill.data.digits_render import IMAGE_SIZE, LabeledBox, Sources, load_sources, render_image

__all__ = ["CROP_SIZE", "CROP_SPLITS", "CropSplit", "default_crop_root", "prepare_digit_crops"]

logger = logging.getLogger(__name__)

# Height and width of every crop, in pixels.
CROP_SIZE = 48


@dataclass(frozen=True)
class CropSplit:
    """One folder of crops.

    Attributes:
        seed: first word of the seed of each of its images; the second is the image's index.
        num_crops: number of crops.
        source: the built-in split whose digits and photographs it may use.
    """

    seed: int
    num_crops: int
    source: Split


# The seeds differ from those of the built-in splits, and so do the images.
CROP_SPLITS = {
    "train": CropSplit(10, 6000, SPLITS["digits_train"]),
    "val": CropSplit(11, 1000, SPLITS["digits_val"]),
}


def default_crop_root() -> Path:
    """Folder of the crops, beside that of the built-in dataset."""
    return default_root().with_name("digit-crops-v1")


def prepare_digit_crops(
    root: Path | None = None, splits: dict[str, CropSplit] | None = None
) -> Path:
    """Makes the crops if they are not there yet; safe to call from several processes at once.

    A split appears whole or not at all: it is written beside its place and renamed.

    Args:
        root: folder of the splits; by default :func:`default_crop_root`.
        splits: what to make; by default ``CROP_SPLITS``.

    Returns:
        The root, an ImageFolder with ``train`` and ``val``.

    Raises:
        ImportError: crops must be made and scikit-learn or scikit-image is missing.
        OSError: the folder cannot be written.
    """
    root = default_crop_root() if root is None else root
    for name, split in (CROP_SPLITS if splits is None else splits).items():
        folder = root / name
        if folder.is_dir():
            continue
        try:
            root.mkdir(parents=True, exist_ok=True)
            with file_lock(str(folder)):
                if not folder.is_dir():
                    _make_split(folder, split)
        except OSError as error:
            raise OSError(
                f"The digit crops cannot be written to {folder} ({error}); free some space or set "
                "DETECTRON2_DATASETS to a folder that can be written."
            ) from error
    return root


def _make_split(folder: Path, split: CropSplit) -> None:
    """Writes the whole split under another name, then renames it; needs the lock of the folder."""
    partial = folder.with_name(f".{folder.name}.partial")
    # Left by a process that was killed: whoever wrote it no longer holds the lock.
    shutil.rmtree(partial, ignore_errors=True)
    for name in CLASSES:
        (partial / name).mkdir(parents=True)
    logger.info("Making %d digit crops in %s", split.num_crops, folder)
    sources = load_sources(split.source.digits, split.source.photos)
    # disable=None: no bar where the output is a file.
    for index in tqdm(range(split.num_crops), desc=folder.name, unit="crop", disable=None):
        pixels, label = _draw_crop(np.random.default_rng([split.seed, index]), sources)
        path = partial / CLASSES[label] / f"{index:06d}.png"
        Image.fromarray(pixels).save(path, compress_level=1)
    partial.rename(folder)


def _draw_crop(rng: np.random.Generator, sources: Sources) -> tuple[np.ndarray, int]:
    """A crop that shows one digit and no part of another, (48, 48, 3) uint8 RGB, and its label."""
    while True:
        pixels, boxes = render_image(rng, sources)
        for number, box in enumerate(boxes):
            x = _window_start(rng, box.x0, box.x1)
            y = _window_start(rng, box.y0, box.y1)
            if not any(_overlaps(x, y, other) for other in boxes[:number] + boxes[number + 1 :]):
                return pixels[y : y + CROP_SIZE, x : x + CROP_SIZE], box.label


def _window_start(rng: np.random.Generator, start: int, end: int) -> int:
    """First pixel, along one axis, of a random window that covers a box or lies within it."""
    low, high = sorted((start, end - CROP_SIZE))
    last = IMAGE_SIZE - CROP_SIZE
    return int(rng.integers(min(max(low, 0), last), min(max(high, 0), last) + 1))


def _overlaps(x: int, y: int, box: LabeledBox) -> bool:
    """Whether the window that starts at (x, y) shows any of a box."""
    return box.x0 < x + CROP_SIZE and x < box.x1 and box.y0 < y + CROP_SIZE and y < box.y1

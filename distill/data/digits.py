"""The built-in dataset: real handwritten digits on real photographs, made on first use.

The digits are scikit-learn's ``load_digits``; the photographs ship inside scikit-learn and
scikit-image, so nothing is downloaded. Validation and test use digits and whole photographs that
never occur in training. ``python -m distill.data`` makes every split ahead of time.

A split is a folder ``$DETECTRON2_DATASETS/digits-v1/<name>`` (without that variable
``~/.cache/distill/digits-v1/<name>``) that holds ``<name>.json`` in COCO format and ``images/``.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from iopath.common.file_io import file_lock
from PIL import Image
from tqdm import tqdm

from distill.data.coco_json.records import load_coco_records
from distill.data.digits_render import (
    IMAGE_SIZE,
    LabeledBox,
    Sources,
    load_sources,
    render_image,
)
from distill.utils.files import load_json, write_json

__all__ = ["SPLITS", "Split", "default_root", "prepare_split", "register_digits"]

CLASSES = tuple("0123456789")

_logger = logging.getLogger(__name__)

_TRAIN_DIGITS = (0, 1048)
# load_digits is ordered in blocks of writers, so contiguous ranges keep most writers apart.
_VAL_DIGITS = (1048, 1348)
_TEST_DIGITS = (1348, 1797)
# Photographs with print or writing in them (page, text, clock_motion) are left out.
_TRAIN_PHOTOS = (
    "sklearn:china.jpg",
    "skimage:astronaut",
    "skimage:rocket",
    "skimage:immunohistochemistry",
    "skimage:stereo_motorcycle",
    "skimage:camera",
    "skimage:grass",
    "skimage:retina",
    "skimage:coins",
    "skimage:cell",
)
_VAL_PHOTOS = ("skimage:cat", "skimage:brick", "skimage:moon")
_TEST_PHOTOS = (
    "sklearn:flower.jpg",
    "skimage:coffee",
    "skimage:gravel",
    "skimage:hubble_deep_field",
)
_NEGATIVE_PHOTOS = (*_TRAIN_PHOTOS, *_VAL_PHOTOS)


@dataclass(frozen=True)
class Split:
    """One dataset.

    Attributes:
        seed: first word of the seed of each of its images; the second is the image's index.
        num_images: number of images.
        digits: first (inclusive) and last (exclusive) index into ``load_digits``.
        photos: photographs, as ``distill.data.digits_render.load_sources`` names them.
        labeled: whether its JSON has boxes; if not, they are in ``<name>_labels.json``.
        classes: the digits it has labels for; the others, drawn as well, have none.
        negative: whether the images are blurred and turned into their negatives: another domain.
    """

    seed: int
    num_images: int
    digits: tuple[int, int]
    photos: tuple[str, ...]
    labeled: bool = True
    classes: tuple[str, ...] = CLASSES
    negative: bool = False


SPLITS: dict[str, Split] = {
    "digits_train": Split(0, 3000, _TRAIN_DIGITS, _TRAIN_PHOTOS),
    # The first images of digits_train: an image is a function of the seed and its number.
    "digits_train_10pct": Split(0, 300, _TRAIN_DIGITS, _TRAIN_PHOTOS),
    "digits_val": Split(1, 300, _VAL_DIGITS, _VAL_PHOTOS),
    "digits_test": Split(2, 500, _TEST_DIGITS, _TEST_PHOTOS),
    # The images of digits_train, with labels for half of the classes.
    "digits_train_0to4": Split(0, 3000, _TRAIN_DIGITS, _TRAIN_PHOTOS, classes=CLASSES[:5]),
    "digits_train_5to9": Split(0, 3000, _TRAIN_DIGITS, _TRAIN_PHOTOS, classes=CLASSES[5:]),
    "digits_unlabeled": Split(3, 3000, _TRAIN_DIGITS, _TRAIN_PHOTOS, labeled=False),
    # Its first quarter is digits_unlabeled.
    "digits_unlabeled_4x": Split(3, 12000, _TRAIN_DIGITS, _TRAIN_PHOTOS, labeled=False),
    # Another domain: blurred negatives. Three photographs alone would be too few to learn from.
    "digits_negative_train": Split(4, 3000, _TRAIN_DIGITS, _NEGATIVE_PHOTOS, negative=True),
    "digits_negative_unlabeled": Split(
        4, 3000, _TRAIN_DIGITS, _NEGATIVE_PHOTOS, labeled=False, negative=True
    ),
    "digits_negative_test": Split(5, 500, _TEST_DIGITS, _TEST_PHOTOS, negative=True),
}


def default_root() -> Path:
    """Folder of the splits: under ``$DETECTRON2_DATASETS`` if set, else in the user's cache."""
    datasets = os.environ.get("DETECTRON2_DATASETS")
    if datasets:
        return Path(datasets).expanduser() / "digits-v1"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "distill" / "digits-v1"


def prepare_split(name: str, root: Path, split: Split | None = None) -> Path:
    """Makes a split if it is not there yet; safe to call from several processes at once.

    A split appears whole or not at all: it is written beside its place and renamed.

    Args:
        name: name of the split, and of its folder and JSON file.
        root: folder of the splits.
        split: what to make; by default ``SPLITS[name]``.

    Returns:
        The split's folder.

    Raises:
        ImportError: the split must be made and scikit-learn or scikit-image is missing.
        OSError: the folder cannot be written.
    """
    split = SPLITS[name] if split is None else split
    folder = root / name
    if folder.is_dir():
        return folder
    sources = load_sources(split.digits, split.photos)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with file_lock(str(folder)):
            if not folder.is_dir():
                _make_folder(folder, name, split, sources)
    except OSError as error:
        raise OSError(
            f"{name} cannot be written to {folder} ({error}); free some space or set "
            "DETECTRON2_DATASETS to a folder that can be written."
        ) from error
    return folder


def _make_folder(folder: Path, name: str, split: Split, sources: Sources) -> None:
    """Writes the whole split under another name, then renames it; needs the lock of the folder."""
    partial = folder.with_name(f".{name}.partial")
    # Left by a process that was killed: whoever wrote it no longer holds the lock.
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    _logger.info("Making %s: %d images in %s", name, split.num_images, folder)
    boxes = []
    # disable=None: no bar where the output is a file.
    for index in tqdm(range(split.num_images), desc=name, unit="image", disable=None):
        generator = np.random.default_rng([split.seed, index])
        pixels, found = render_image(generator, sources, negative=split.negative)
        path = partial / "images" / _file_name(index)
        Image.fromarray(pixels).save(path, compress_level=1)
        boxes.append(found)
    labels = _coco_json(boxes, split.classes)
    if split.labeled:
        write_json(partial / f"{name}.json", labels)
    else:
        write_json(partial / f"{name}.json", {**labels, "annotations": []})
        write_json(partial / f"{name}_labels.json", labels)
    partial.rename(folder)


def _file_name(index: int) -> str:
    return f"{index:06d}.png"


def _coco_json(boxes: list[list[LabeledBox]], classes: tuple[str, ...]) -> dict[str, Any]:
    """Boxes of each image in COCO's format; category k + 1 is classes[k], ids start at 1."""
    annotations = [
        {
            "image_id": image_id,
            "category_id": classes.index(str(box.label)) + 1,
            "bbox": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
            "area": (box.x1 - box.x0) * (box.y1 - box.y0),
            "iscrowd": 0,
        }
        for image_id, found in enumerate(boxes, start=1)
        for box in found
        if str(box.label) in classes
    ]
    return {
        "info": {"description": "Handwritten digits on photographs"},
        "images": [
            {
                "id": index + 1,
                "file_name": _file_name(index),
                "width": IMAGE_SIZE,
                "height": IMAGE_SIZE,
            }
            for index in range(len(boxes))
        ],
        "annotations": [{"id": i, **box} for i, box in enumerate(annotations, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)],
    }


def _load(name: str, root: Path) -> list[dict[str, Any]]:
    """Detectron2's records of a split, which is made if need be."""
    folder = prepare_split(name, root)
    path = folder / f"{name}.json"
    try:
        listed = {image["file_name"] for image in load_json(path.read_text("utf-8"))["images"]}
        missing = listed.difference(os.listdir(folder / "images"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RuntimeError(
            f"{path} is damaged ({error}): delete the folder {folder}, and it will be made again."
        ) from error
    if missing:
        raise RuntimeError(
            f"{len(missing)} images listed in {path} are missing, {min(missing)} among them: "
            f"delete the folder {folder}, and it will be made again."
        )
    return load_coco_records(path, folder / "images", name)


def register_digits(root: Path | None = None) -> None:
    """Registers the splits with Detectron2, once; nothing is made or read until one is used.

    Args:
        root: folder of the splits; by default :func:`default_root`.
    """
    root = default_root() if root is None else root
    for name, split in SPLITS.items():
        if name in DatasetCatalog.list():
            continue
        DatasetCatalog.register(name, lambda name=name: _load(name, root))
        MetadataCatalog.get(name).set(
            thing_classes=list(split.classes),
            json_file=str(root / name / f"{name}.json"),
            image_root=str(root / name / "images"),
            evaluator_type="coco",
        )
        if not split.labeled:
            labels = root / name / f"{name}_labels.json"
            MetadataCatalog.get(name).set(labels_json=str(labels))


register_digits()

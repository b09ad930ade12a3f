"""Detectron2's records of a COCO file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.logger import log_first_n

from distill.data.coco_json.entries import clean_categories
from distill.data.coco_json.file import CocoFile, Entry
from distill.data.coco_json.folders import ImageFolder
from distill.data.coco_json.keypoints import keypoint_metadata, keypoint_numbers
from distill.data.coco_json.masks import usable_mask
from distill.data.coco_json.reading import read_coco, without_collector

__all__ = ["describe", "load_coco_records"]


def load_coco_records(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
    *,
    keep_unlisted: bool = False,
) -> list[dict[str, Any]]:
    """What Detectron2's `load_coco_json` returns, by the one reader.

    A box whose polygons are none stays, without "segmentation".

    Args:
        json_file: the file.
        image_root: the folder of its images.
        dataset_name: the dataset whose metadata get the classes; without one, boxes have the
            file's own category ids.
        extra_annotation_keys: keys of annotations to keep beside those that Detectron2 knows.
        keep_unlisted: see :func:`read_coco`.

    Returns:
        One dict an image, sorted by the images' ids; file names are those of the files that are
        there, see :class:`ImageFolder`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one sentence that names the file, the entry and what to do.
    """
    file = read_coco(json_file, keep_unlisted=keep_unlisted)
    file.say_notes()
    if dataset_name is None:
        places = {category["id"]: category["id"] for category in file.categories}
    else:
        places = describe(dataset_name, file)
    with without_collector():
        records = _images(file, image_root)
        _add_annotations(records, file, places, tuple(extra_annotation_keys or ()))
    return list(records.values())


def describe(dataset_name: str, file: CocoFile) -> dict[int | str, int]:
    """Tells a dataset's metadata of a file's classes and keypoints.

    Args:
        dataset_name: the dataset.
        file: its file.

    Returns:
        The class of each category, by its id.

    Raises:
        ValueError: one sentence, if the dataset was registered with other classes.
    """
    metadata = MetadataCatalog.get(dataset_name)
    categories, known = file.categories, metadata.get("thing_classes")
    if known is not None and len(known) == len(categories) + len(file.roots):
        # Whoever lists the parents among the classes means them.
        categories = clean_categories([*file.roots, *categories])
    names = [category["name"] for category in categories]
    if known is not None and list(known) != names:
        raise ValueError(
            f"{dataset_name} is registered with the thing_classes {list(known)!s:.200}, but "
            f"{file.path} has {names!s:.200}: leave thing_classes out where it is registered."
        )
    places = {category["id"]: place for place, category in enumerate(categories)}
    # That of a builtin dataset has the ids of COCO whatever the file has.
    vars(metadata).update(thing_classes=names, thing_dataset_id_to_contiguous_id=places)
    for key, value in keypoint_metadata(file).items():
        if metadata.get(key) is None:
            setattr(metadata, key, value)
    return places


def _images(file: CocoFile, image_root: str | os.PathLike) -> dict[Any, dict[str, Any]]:
    """The records by image, without boxes."""
    folder = ImageFolder(image_root)
    return {
        image["id"]: {
            "file_name": folder.find(image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [],
        }
        for image in _sorted(file.images)
    }


def _sorted(images: list[Entry]) -> list[Entry]:
    try:
        return sorted(images, key=lambda image: image["id"])
    except TypeError:  # text and numbers
        return images


def _add_annotations(
    records: dict[Any, dict[str, Any]],
    file: CocoFile,
    places: dict[int | str, Any],
    extra: tuple[str, ...],
) -> None:
    more = tuple(key for key in extra if key not in ("iscrowd", "bbox", "keypoints", "category_id"))
    without_mask = 0
    for x in file.annotations:
        record = records[x["image_id"]]
        box = {
            "iscrowd": x["iscrowd"],
            "bbox": x["bbox"],
            "category_id": places[x["category_id"]],
            "bbox_mode": BoxMode.XYWH_ABS,
        }
        if more:
            box.update({key: x[key] for key in more if key in x})
        if x.get("segmentation"):
            mask = usable_mask(x["segmentation"], record)
            if mask is None:
                without_mask += 1
            else:
                box["segmentation"] = mask
        if x.get("keypoints"):
            box["keypoints"] = _pixel_centers(x, file)
        record["annotations"].append(box)
    if without_mask:
        log_first_n(
            logging.WARNING,
            f"{file.path}: {without_mask} masks are no polygon of three points in their image and "
            "no RLE of its size; their boxes count where only boxes are trained on.",
            key="message",
            name=__name__,
        )


def _pixel_centers(annotation: Entry, file: CocoFile) -> list[float]:
    """Keypoints in Detectron2's coordinates, where a pixel's center is at a half."""
    points = keypoint_numbers(file, annotation)
    return [x + 0.5 if i % 3 != 2 else x for i, x in enumerate(points)]

"""Labels by the name of a registered dataset, or from a JSON file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from distill.data import check_datasets
from distill.data.pseudo.file import HUMAN, PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.registration import image_root, is_json_dataset, json_path

__all__ = ["common_root", "load_labels", "match_images"]

_CORNERS = 4


def load_labels(source: str, *, option: str = "--labels", crowds: bool = False) -> PseudoFile:
    """Reads the boxes of a registered dataset, or of a file.

    A dataset whose metadata has `labels_json`, the truth of images that count as unlabeled, gets
    its boxes from there.

    Args:
        source: FILE.json of pseudo labels or plain COCO, or FILE.json@FOLDER with the folder of
            its images; else a dataset's name.
        option: where the name comes from, for the messages.
        crowds: read the crowds, which are left out otherwise, and nothing else.

    Returns:
        The images and their boxes. Those of a dataset are by the teacher ``HUMAN``, with score 1;
        its file names are below the metadata's image_root, or the folder that all images share.

    Raises:
        FileNotFoundError: if the file, or one of the dataset's, does not exist.
        ValueError: one sentence that names what is wrong with it.
    """
    if is_json_dataset(source):
        file = PseudoFile.load(json_path(source), crowds=crowds)
        return replace(file, info={**file.info, "image_root": _root_of_json(source, file)})
    check_datasets((source,), key=option)
    metadata = MetadataCatalog.get(source)
    # Before the metadata is read: Detectron2 completes it when it loads a COCO file.
    records = list(DatasetCatalog.get(source))
    if not records:
        raise ValueError(f"{option} has {source}, which holds no image: check its files.")
    try:
        root = common_root(records, metadata.get("image_root"))
        images = [_image(record, number, root) for number, record in enumerate(records, start=1)]
        labels = _labels(records, crowds)
    except KeyError as error:
        raise ValueError(f"{option} has {source}, whose records lack {error}: add it.") from error
    except ValueError as error:
        raise ValueError(f"{option} has {source}, where {error}.") from error
    info = {"dataset": source, "image_root": root}
    if metadata.get("labels_json"):
        known = PseudoFile.load(metadata.labels_json, crowds=crowds)
        return replace(known, info={**known.info, **info})
    names = tuple(metadata.get("thing_classes") or ())
    if len(labels) and labels.classes.max() >= len(names):
        raise ValueError(
            f"{option} has {source}, which has a class {labels.classes.max()} without a name: "
            "complete thing_classes in its metadata."
        )
    return PseudoFile(info, images, names, (HUMAN,), labels)


def match_images(first: PseudoFile, second: PseudoFile) -> np.ndarray:
    """Finds the images of one file in another by their ids.

    Args:
        first: N images.
        second: the file to look in.

    Returns:
        (N,) int64 number of each image in the second file; -1 for those that it lacks.

    Raises:
        ValueError: if an id stands for files of two names.
    """
    numbers = {image["id"]: number for number, image in enumerate(second.images)}
    found = np.array([numbers.get(image["id"], -1) for image in first.images], dtype=np.int64)
    for image, number in zip(first.images, found.tolist(), strict=True):
        own, other = image["file_name"], second.images[number]["file_name"] if number >= 0 else ""
        # The folders may differ, since so may the roots.
        if other and Path(own).name != Path(other).name:
            raise ValueError(
                f"The image {image['id']!r} is {own} in one file of labels and {other} in the "
                "other: give two files of the same dataset."
            )
    return found


def _root_of_json(source: str, file: PseudoFile) -> str:
    # The images are not needed by all who ask: only a folder that was named must exist.
    if not source.endswith(".json"):
        return os.path.abspath(image_root(source, file))
    root = file.info["image_root"]
    return os.path.abspath(json_path(source).parent / root) if root else ""


def common_root(records: Sequence[dict[str, Any]], known: str | None) -> str:
    """The folder that images' file names start from, absolute.

    Args:
        records: images in Detectron2's format.
        known: the folder that the dataset's metadata name.

    Returns:
        That folder if all images are below it, else the deepest one that all share.
    """
    folders = {os.path.dirname(os.path.abspath(record["file_name"])) for record in records}
    common = os.path.commonpath(folders)
    if known and os.path.commonpath([common, os.path.abspath(known)]) == os.path.abspath(known):
        return os.path.abspath(known)
    return common


def _image(record: dict[str, Any], number: int, root: str) -> dict[str, Any]:
    return {
        "id": record.get("image_id", number),
        "file_name": Path(os.path.relpath(record["file_name"], root)).as_posix(),
        "width": record["width"],
        "height": record["height"],
    }


def _labels(records: Sequence[dict[str, Any]], crowds: bool) -> PseudoLabels:
    rows = [
        (number, *_corners(x), x["category_id"])
        for number, record in enumerate(records)
        for x in record.get("annotations", ())
        if bool(x.get("iscrowd", 0)) == crowds
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 2 + _CORNERS)
    image, classes = (table[:, column].astype(np.int64) for column in (0, -1))
    ones, zeros = np.ones(len(table)), np.zeros(len(table), np.int64)
    return PseudoLabels(image, table[:, 1:-1], ones, classes, zeros)


def _corners(annotation: dict[str, Any]) -> list[float]:
    box = [float(x) for x in annotation["bbox"]]
    if len(box) != _CORNERS:
        raise ValueError(f"a box has {len(box)} numbers, not {_CORNERS}: leave out rotated boxes")
    return BoxMode.convert(box, annotation["bbox_mode"], BoxMode.XYXY_ABS)

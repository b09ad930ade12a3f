"""Files of pseudo labels as training images: thresholds, ignored boxes, classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import BoxMode

from distill.data.coco_json import CocoFile
from distill.data.coco_json.folders import ImageFolder
from distill.data.mapper import Record
from distill.data.pseudo.config import check_pseudo_config
from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.pseudo.thresholds import Thresholds
from distill.data.registration import image_root, json_path, register_json_dataset
from distill.data.usable_records import usable_numbers
from distill.utils.wording import some_of
from distill.views.classes import STUDENT_REMEDY, class_names, naming_dataset

__all__ = ["image_records", "in_student_classes", "load_pseudo_records", "pseudo_records"]

_logger = logging.getLogger(__name__)


def load_pseudo_records(cfg: CfgNode, name: str) -> list[Record]:
    """The images of one of DATASETS.PSEUDO with the boxes that DISTILL.PSEUDO asks for.

    Boxes carry the student's classes, matched by name; those of other classes are left out. An
    ignored box has "ignore".

    Args:
        cfg: the student's config.
        name: FILE.json, or FILE.json@FOLDER.

    Returns:
        Records in Detectron2's format; without images that have no box, unless KEEP_EMPTY.

    Raises:
        ValueError, FileNotFoundError: one sentence, if the file, a key or an image is amiss.
    """
    check_pseudo_config(cfg)
    node = cfg.DISTILL.PSEUDO
    register_json_dataset(name)
    file = PseudoFile.load(json_path(name))
    records = image_records(name, file)
    kept_images = usable_numbers(cfg, records, "PSEUDO", name)
    if len(kept_images) < len(records):
        records = [records[number] for number in kept_images]
        file = file.select_images(np.array(kept_images))
    file = in_student_classes(cfg, file, json_path(name))
    limits = _limits(cfg, file.class_names)
    kept = file.labels.above(limits)
    ignored = file.labels.select(file.labels.scores <= limits[file.labels.classes])
    ignored = ignored.above(node.IGNORE_THRESHOLD if node.IGNORE_THRESHOLD else 1.0)
    result = _with_boxes(records, kept)
    for image, box in zip(ignored.image.tolist(), _annotations(ignored), strict=True):
        result[image]["annotations"].append({**box, "ignore": True})
    has_box = kept.counts(len(records)) > 0
    if not node.KEEP_EMPTY:
        result = [record for record, keep in zip(result, has_box, strict=True) if keep]
    _report(json_path(name), len(records), has_box, kept, ignored, node.KEEP_EMPTY)
    if not len(kept):
        raise ValueError(
            f"No box of {json_path(name)} is above its threshold: lower "
            "DISTILL.PSEUDO.SCORE_THRESHOLD, or look at the scores (pseudo_label.py view)"
        )
    return result


def pseudo_records(records: Sequence[Record], labels: PseudoLabels) -> list[Record]:
    """The images of a dataset with a teacher's boxes for annotations, flagged by "pseudo".

    Args:
        records: a dataset in Detectron2's format; its own annotations are left out.
        labels: boxes in it; images that have none are left out.
    """
    kept = ("file_name", "image_id", "height", "width")
    bare = [{**{key: x[key] for key in kept if key in x}, "pseudo": True} for x in records]
    return [record for record in _with_boxes(bare, labels) if record["annotations"]]


def in_student_classes(cfg: CfgNode, file: PseudoFile, path: Path) -> PseudoFile:
    """A file with the boxes of the student's classes, matched by name.

    Args:
        cfg: the student's config.
        file: the file.
        path: where it is, for messages.

    Raises:
        ValueError: one sentence, if it has none of the classes, or they are not known.
    """
    names = class_names(cfg) if naming_dataset(cfg) else file.class_names
    if not names:
        raise ValueError(
            f"The classes of {path} are matched by name, but the student's are not known: "
            f"{STUDENT_REMEDY}, or name a dataset in DISTILL.PSEUDO.CLASSES_OF"
        )
    unknown = [name for name in names if name not in file.class_names]
    if len(unknown) == len(names):
        raise ValueError(
            f"{path} has none of the student's classes ({some_of(names, 5)}) but "
            f"{some_of(file.class_names, 5)}: rename them by pseudo_label.py merge --aliases"
        )
    if unknown:
        _logger.warning(
            "%s lacks %d of the student's %d classes (%s): where they occur in its images they "
            "are background.",
            *(path, len(unknown), len(names), some_of(unknown, 5)),
        )
    mine = file.in_classes(names)
    if len(mine.labels) < len(file.labels):
        _logger.warning(
            "%d boxes of %s are of classes that the student lacks: they are left out.",
            *(len(file.labels) - len(mine.labels), path),
        )
    return mine


def _with_boxes(records: Sequence[Record], labels: PseudoLabels) -> list[Record]:
    result: list[Record] = [{**record, "annotations": []} for record in records]
    for image, box in zip(labels.image.tolist(), _annotations(labels), strict=True):
        result[image]["annotations"].append(box)
    return result


def _annotations(labels: PseudoLabels) -> list[dict[str, Any]]:
    columns = (labels.boxes.tolist(), labels.classes.tolist())
    return [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, "iscrowd": 0}
        for box, category in zip(*columns, strict=True)
    ]


def image_records(name: str, file: PseudoFile | CocoFile) -> list[Record]:
    """The images of a file in Detectron2's format, without boxes.

    Args:
        name: FILE.json, or FILE.json@FOLDER.
        file: what is in it.

    Raises:
        FileNotFoundError: one sentence, if there is no folder of the images.
    """
    folder = ImageFolder(image_root(name, file))
    return [
        {
            "file_name": folder.find(image["file_name"]),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
        }
        for image in file.images
    ]


def _limits(cfg: CfgNode, names: Sequence[str]) -> np.ndarray:
    """The threshold (K,) of each class of the student."""
    node = cfg.DISTILL.PSEUDO
    if not node.THRESHOLDS:
        return Thresholds(node.SCORE_THRESHOLD).of(names)
    thresholds = Thresholds.load(node.THRESHOLDS)
    thresholds.check_classes(names, f"DISTILL.PSEUDO.THRESHOLDS {node.THRESHOLDS}")
    limits = thresholds.of(names)
    low = [name for name, x in zip(names, limits, strict=True) if x < node.IGNORE_THRESHOLD]
    if low:
        raise ValueError(
            f"DISTILL.PSEUDO.IGNORE_THRESHOLD {node.IGNORE_THRESHOLD} is above the threshold of "
            f"{low[0]} in {node.THRESHOLDS}: set it below"
        )
    return limits


def _report(
    path: Path,
    images: int,
    has_box: np.ndarray,
    kept: PseudoLabels,
    ignored: PseudoLabels,
    keep_empty: bool,
) -> None:
    empty = int((~has_box).sum())
    _logger.info(
        "%s: %d boxes above their thresholds in %d of %d images, %d boxes ignored; the %d images "
        "without a box are %s.",
        *(path, len(kept), images - empty, images, len(ignored), empty),
        "kept" if keep_empty else "left out",
    )

"""Boxes that a teacher found in a dataset: kept on disk as COCO JSON, and as annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from distill.checkpoint import atomic_write
from distill.pseudo.labels import PseudoLabels

__all__ = ["load_pseudo_labels", "pseudo_records", "save_pseudo_labels"]

Record = dict[str, Any]


def pseudo_records(records: Sequence[Record], labels: PseudoLabels | None = None) -> list[Record]:
    """The images with the teacher's boxes for annotations, flagged by "pseudo".

    Args:
        records: a dataset in Detectron2's format; its own annotations are left out.
        labels: boxes in it; images that have none are left out. None keeps all images, without
            boxes, for a teacher that sees them in training.
    """
    bare = [{**_without_labels(record), "annotations": [], "pseudo": True} for record in records]
    if labels is None:
        return bare
    columns = (labels.image.tolist(), labels.boxes.tolist(), labels.classes.tolist())
    for image, box, category in zip(*columns, strict=True):
        annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category}
        bare[image]["annotations"].append({**annotation, "iscrowd": 0})
    return [record for record in bare if record["annotations"]]


def _without_labels(record: Record) -> Record:
    kept = ("file_name", "image_id", "height", "width")
    return {key: record[key] for key in kept if key in record}


def save_pseudo_labels(
    path: Path,
    labels: PseudoLabels,
    records: Sequence[Record],
    class_names: Sequence[str],
    info: dict[str, Any],
) -> None:
    """Writes boxes as COCO's JSON with a `score` each, whole or not at all.

    The images' ids are those of the dataset, the categories' ids the student's classes.

    Args:
        path: the file; its folder must exist.
        labels: the boxes.
        records: the dataset.
        class_names: the student's classes.
        info: the header; plain values.

    Raises:
        OSError: if the file can't be written.
    """
    ids = _image_ids(records)
    low, high = labels.boxes[:, :2], labels.boxes[:, 2:]
    # A hundredth of a pixel: the file is a third of the size.
    corners = np.concatenate([low, high - low], axis=1).round(2).tolist()
    columns = (labels.image.tolist(), corners, labels.scores.round(5), labels.classes.tolist())
    annotations = [
        {
            "id": number,
            "image_id": ids[image],
            "category_id": category,
            "bbox": box,
            "area": round(box[2] * box[3], 2),
            "iscrowd": 0,
            "score": float(score),
        }
        for number, (image, box, score, category) in enumerate(zip(*columns, strict=True), start=1)
    ]
    images = [
        {
            "id": ids[number],
            "file_name": Path(str(record["file_name"])).name,
            "width": record.get("width"),
            "height": record.get("height"),
        }
        for number, record in enumerate(records)
    ]
    content = {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(class_names)],
    }
    atomic_write(path, lambda stream: stream.write(json.dumps(content).encode()))


def load_pseudo_labels(path: Path, records: Sequence[Record], key: str) -> PseudoLabels:
    """Reads what :func:`save_pseudo_labels` wrote.

    Args:
        path: the file.
        records: the dataset.
        key: what the header's `key` must be.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or belongs to something else.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["info"]["key"] != key:
            raise ValueError("its header has another key")
        number = {image_id: i for i, image_id in enumerate(_image_ids(records))}
        table = [
            (number[x["image_id"]], *x["bbox"], x["score"], x["category_id"])
            for x in content["annotations"]
        ]
        rows = np.array(table, dtype=np.float64).reshape(-1, 7)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is damaged ({reason})") from error
    boxes = rows[:, 1:5]
    boxes[:, 2:] += boxes[:, :2]
    return PseudoLabels(rows[:, 0].astype(int), boxes, rows[:, 5], rows[:, 6].astype(int))


def _image_ids(records: Sequence[Record]) -> list[Any]:
    return [record.get("image_id", number) for number, record in enumerate(records)]

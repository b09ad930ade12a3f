"""The true labels of images that count as unlabeled, where somebody knows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json

__all__ = ["true_annotations"]

Record = dict[str, Any]


def true_annotations(
    name: str, records: Sequence[Record], wanted: Sequence[str]
) -> list[list[dict[str, Any]]] | None:
    """The annotations of every image in given classes; None where they are not known.

    They are the dataset's own, or those of the file that its metadata calls `labels_json`.

    Args:
        name: a registered dataset.
        records: its images.
        wanted: names of the classes; other objects are left out. () takes all as they are.
    """
    metadata = MetadataCatalog.get(name)
    labels_json = metadata.get("labels_json")
    if labels_json and Path(labels_json).is_file():
        known = load_coco_json(labels_json, metadata.image_root, name)
        by_image = {x["image_id"]: x["annotations"] for x in known}
        truth = [by_image.get(record["image_id"], []) for record in records]
    else:
        truth = [record.get("annotations", []) for record in records]
    if not any(truth):
        return None
    own = metadata.get("thing_classes")
    if not own or not wanted:
        return truth
    return [
        [
            {**x, "category_id": wanted.index(own[x["category_id"]])}
            for x in found
            if own[x["category_id"]] in wanted
        ]
        for found in truth
    ]

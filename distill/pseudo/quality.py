"""How good boxes are that a teacher found, where the truth is known."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.pseudo.labels import PseudoLabels

__all__ = ["precision_recall"]

_AREA = {"area": 1.0, "iscrowd": 0}


def precision_recall(
    labels: PseudoLabels, truth: Sequence[Sequence[dict[str, Any]]], *, iou: float = 0.5
) -> tuple[float | None, float | None]:
    """Share of the boxes that are right, and share of the objects that are found.

    Matched as COCO does: in each class the boxes, the best score first, take the object they
    overlap most among those that are left. Crowds count neither way.

    Args:
        labels: the boxes.
        truth: the annotations of every image, in Detectron2's format and the boxes' classes.
        iou: lowest IoU of a match.

    Returns:
        Precision and recall in [0, 1]; None where there is no box, or no object.
    """
    objects = [
        {**_AREA, **_coco_box(x), "id": number, "image_id": image, "iscrowd": x.get("iscrowd", 0)}
        for number, (image, x) in enumerate(
            ((image, x) for image, found in enumerate(truth) for x in found), start=1
        )
    ]
    columns = (labels.image.tolist(), labels.boxes.tolist(), labels.scores, labels.classes.tolist())
    found = [
        {
            **_AREA,
            **_coco_box({"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category}),
            "id": number,
            "image_id": image,
            "score": float(score),
        }
        for number, (image, box, score, category) in enumerate(zip(*columns, strict=True), start=1)
    ]
    right, boxes, total = _count(found, objects, len(truth), iou)
    return (right / boxes if boxes else None, right / total if total else None)


def _coco_box(annotation: dict[str, Any]) -> dict[str, Any]:
    box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS)
    return {"bbox": [float(x) for x in box], "category_id": annotation["category_id"]}


def _count(found: list[dict], objects: list[dict], images: int, iou: float) -> tuple[int, int, int]:
    """Right boxes, boxes and objects, without those that count neither way."""
    categories = {x["category_id"] for x in (*found, *objects)}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*(_coco(x, images, categories) for x in (objects, found)), "bbox")
        params = evaluation.params
        params.iouThrs = np.array([iou])
        params.areaRng, params.areaRngLbl = [[0, 1e10]], ["all"]
        params.maxDets = [max(len(found), 1)]
        evaluation.evaluate()
    parts = [x for x in evaluation.evalImgs if x is not None]
    counted = [~x["dtIgnore"][0].astype(bool) for x in parts]
    right = sum(
        int((x["dtMatches"][0] > 0)[own].sum()) for x, own in zip(parts, counted, strict=True)
    )
    boxes = sum(int(own.sum()) for own in counted)
    return right, boxes, sum(int((np.asarray(x["gtIgnore"]) == 0).sum()) for x in parts)


def _coco(annotations: list[dict], images: int, categories: set[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(images)],
        "annotations": annotations,
        "categories": [{"id": number} for number in sorted(categories)],
    }
    coco.createIndex()
    return coco

"""How good boxes are that a teacher found, where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.matching import match_boxes

__all__ = ["precision_recall"]


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
    objects, crowds = (_objects(truth, crowds=which) for which in (False, True))
    matches = match_boxes(labels, objects, crowds=crowds, iou=iou)
    right, boxes, total = int(matches.right.sum()), int(matches.counted.sum()), len(objects)
    return (right / boxes if boxes else None, right / total if total else None)


def _objects(truth: Sequence[Sequence[dict[str, Any]]], *, crowds: bool) -> PseudoLabels:
    rows = [
        (
            image,
            *BoxMode.convert([float(v) for v in x["bbox"]], x["bbox_mode"], BoxMode.XYXY_ABS),
            x["category_id"],
        )
        for image, found in enumerate(truth)
        for x in found
        if bool(x.get("iscrowd", 0)) == crowds
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    image, classes = (table[:, column].astype(np.int64) for column in (0, 5))
    return PseudoLabels(image, table[:, 1:5], np.ones(len(table)), classes)

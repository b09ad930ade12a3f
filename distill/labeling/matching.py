"""Which boxes are right: boxes matched with objects as COCO does."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels, class_places
from distill.labeling.same_images import match_images
from distill.labeling.score_curve import Quality

__all__ = ["Compared", "Matches", "compare", "match_boxes"]


@dataclass(frozen=True)
class Matches:
    """What became of B boxes.

    Attributes:
        right: (B,) bool, whether a box found an object of its class.
        counted: (B,) bool, False for a box in a crowd, which is neither right nor wrong.
    """

    right: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class Compared(Matches):
    """What became of the B boxes of a file with N images.

    Attributes:
        objects: the true boxes in its images and of its classes, by its numbers.
        labeled: (N,) bool, the images of which labels are known.
    """

    objects: PseudoLabels
    labeled: np.ndarray

    @property
    def quality(self) -> Quality:
        """That of all boxes together."""
        return Quality(int(self.right.sum()), int(self.counted.sum()), len(self.objects))


def compare(pseudo: PseudoFile, truth: PseudoFile, *, iou: float = 0.5) -> Compared:
    """Compares the boxes of a file with labels of the same images.

    Args:
        pseudo: the boxes.
        truth: the labels, matched by the files of the images and the names of the classes.
        iou: lowest IoU of a match.

    Raises:
        ValueError: if it is not clear which images are the same.
    """
    numbers = match_images(truth, pseudo)
    places = class_places(truth.class_names, pseudo.class_names)
    objects, crowds = (x.renumbered(numbers, places) for x in (truth.labels, truth.crowds))
    labeled = np.isin(np.arange(len(pseudo.images)), numbers)
    matches = match_boxes(pseudo.labels, objects, crowds=crowds, iou=iou)
    return Compared(matches.right, matches.counted, objects, labeled)


def match_boxes(
    labels: PseudoLabels,
    truth: PseudoLabels,
    *,
    crowds: PseudoLabels | None = None,
    iou: float = 0.5,
) -> Matches:
    """Matches boxes with the objects of the same images and classes.

    In each class the boxes, the best score first, take the object they overlap most among those
    that are left. So a box' match does not depend on boxes of lower scores: what is right above
    any threshold is seen from one matching of all boxes.

    Args:
        labels: the B boxes.
        truth: the objects; scores are not read.
        crowds: areas of many objects; any number of boxes may lie in one, and counts neither way.
        iou: lowest IoU of a match.
    """
    crowds = PseudoLabels.none() if crowds is None else crowds
    objects = [*_annotations(truth, iscrowd=0), *_annotations(crowds, iscrowd=1)]
    found = _annotations(labels, iscrowd=0)
    images = {x["image_id"] for x in (*found, *objects)}
    categories = {x["category_id"] for x in (*found, *objects)}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*(_coco(x, images, categories) for x in (objects, found)), "bbox")
        params = evaluation.params
        params.iouThrs = np.array([iou])
        params.areaRng, params.areaRngLbl = [[0, 1e10]], ["all"]
        params.maxDets = [max(len(found), 1)]
        evaluation.evaluate()
    right, counted = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    for part in evaluation.evalImgs:
        if part is not None and part["dtIds"]:
            places = np.array(part["dtIds"]) - 1
            counted[places] = ~part["dtIgnore"][0].astype(bool)
            right[places] = part["dtMatches"][0] > 0
    return Matches(right & counted, counted)


def _annotations(labels: PseudoLabels, *, iscrowd: int) -> list[dict[str, Any]]:
    boxes = labels.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    columns = (labels.image, boxes, labels.scores, labels.classes)
    keys = ("image_id", "bbox", "score", "category_id")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    # One area for all: COCO's ranges of sizes play no part.
    return [{"area": 1.0, "iscrowd": iscrowd, **dict(zip(keys, row, strict=True))} for row in rows]


def _coco(annotations: list[dict[str, Any]], images: set[int], categories: set[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in sorted(images)],
        # COCO takes the id 0 for no match.
        "annotations": [{"id": number, **x} for number, x in enumerate(annotations, start=1)],
        "categories": [{"id": number} for number in sorted(categories)],
    }
    coco.createIndex()
    return coco

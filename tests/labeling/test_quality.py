from __future__ import annotations

import numpy as np
import pytest
from detectron2.structures import BoxMode

from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.quality import precision_recall


def _found(*rows: tuple) -> PseudoLabels:
    """Rows of image, box, score, class."""
    image, boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return PseudoLabels(
        np.array(image, dtype=int),
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(scores, dtype=float),
        np.array(classes, dtype=int),
    )


def _object(box: list[float], category: int = 0, **fields) -> dict:
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, **fields}


_TEN = [0.0, 0.0, 10.0, 10.0]


def test_each_object_is_found_once_by_the_best_score():
    # The IoU of both with the object is over 0.5; the higher score takes it.
    found = _found((0, [0, 0, 10, 9], 0.9, 0), (0, _TEN, 0.8, 0))
    assert precision_recall(found, [[_object(_TEN)]]) == (0.5, 1.0)


@pytest.mark.parametrize(("width", "right"), [(5, 1), (4.9, 0)])
def test_a_match_needs_an_iou_of_a_half(width, right):
    found = _found((0, [0, 0, width, 10], 0.9, 0))
    assert precision_recall(found, [[_object(_TEN)]]) == (right, right)


def test_another_class_or_image_is_no_match():
    found = _found((0, _TEN, 0.9, 1), (1, _TEN, 0.9, 0), (1, _TEN, 0.8, 1))
    truth = [[_object(_TEN)], [_object(_TEN), _object([20, 20, 30, 30], 1)]]
    precision, recall = precision_recall(found, truth)
    assert precision == pytest.approx(1 / 3) and recall == pytest.approx(1 / 3)


def test_a_box_in_a_crowd_counts_neither_way():
    found = _found((0, [2, 2, 6, 6], 0.9, 0), (0, [20, 20, 30, 30], 0.8, 0))
    truth = [[_object(_TEN, iscrowd=1), _object([20, 20, 30, 30])]]
    assert precision_recall(found, truth) == (1.0, 1.0)


def test_corner_and_size_boxes_are_understood():
    found = _found((0, [10, 10, 15, 20], 0.9, 0))
    truth = [[{**_object([10, 10, 5, 10]), "bbox_mode": BoxMode.XYWH_ABS}]]
    assert precision_recall(found, truth) == (1.0, 1.0)


def test_without_boxes_or_objects_there_is_no_share():
    assert precision_recall(_found(), [[_object(_TEN)]]) == (None, 0.0)
    assert precision_recall(_found((0, _TEN, 0.9, 0)), [[]]) == (0.0, None)
    assert precision_recall(_found(), [[]]) == (None, None)

from __future__ import annotations

import numpy as np
import pytest

from distill.data.pseudo.labels import PseudoLabels, class_places


@pytest.fixture
def labels() -> PseudoLabels:
    return PseudoLabels(
        image=np.array([0, 0, 2]),
        boxes=np.array([[0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]], float),
        scores=np.array([0.5, 0.7, 0.6]),
        classes=np.array([1, 0, 1]),
        teacher=np.array([0, 1, 1]),
    )


def test_boxes_of_exactly_the_threshold_are_left_out(labels):
    assert labels.above(0.5).scores.tolist() == [0.7, 0.6]
    assert labels.above(0.49).scores.tolist() == [0.5, 0.7, 0.6]


def test_each_class_has_its_own_threshold(labels):
    assert labels.above(np.array([0.8, 0.5])).scores.tolist() == [0.6]


def test_a_selection_is_of_all_columns(labels):
    chosen = labels.select(np.array([False, True, True]))
    assert chosen.image.tolist() == [0, 2]
    assert chosen.boxes[:, 0].tolist() == [1, 2]
    assert chosen.classes.tolist() == [0, 1]
    assert chosen.teacher.tolist() == [1, 1]
    assert len(labels.select(np.array([2]))) == 1


def test_a_single_teacher_needs_no_column(labels):
    alone = PseudoLabels(labels.image, labels.boxes, labels.scores, labels.classes)
    assert alone.above(0.55).teacher.tolist() == [0, 0]


def test_other_numbers_sort_the_boxes_anew_and_leave_out_what_has_none(labels):
    moved = labels.renumbered(np.array([4, 9, 1]), np.array([0, 3]))
    assert moved.image.tolist() == [1, 4, 4]
    assert moved.boxes[:, 0].tolist() == [2, 0, 1]
    assert moved.classes.tolist() == [3, 3, 0] and moved.teacher.tolist() == [1, 0, 1]
    fewer = labels.renumbered(np.array([0, -1, 1]), np.array([-1, 0]))
    assert fewer.image.tolist() == [0, 1] and fewer.classes.tolist() == [0, 0]


def test_classes_are_found_by_name():
    assert class_places(("ant", "bee"), ("bee", "cow")).tolist() == [-1, 0]


def test_images_without_boxes_count_as_well(labels):
    assert labels.counts(4).tolist() == [2, 0, 1, 0]
    assert labels.above(1.0).counts(2).tolist() == [0, 0]

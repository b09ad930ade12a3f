"""Mapping of the teacher's classes by name."""

from __future__ import annotations

import logging

import pytest
from helpers import tiny

from distill.views.classes import class_names, map_classes, num_classes, teacher_class_names


def test_equal_names_in_equal_order_need_no_map() -> None:
    assert map_classes(("a", "b"), ("a", "b"), 2, 2) is None


def test_a_permuted_superset_is_mapped_by_name() -> None:
    assert map_classes(("a", "b"), ("x", "b", "a"), 2, 3).tolist() == [2, 1]


def test_a_class_that_the_teacher_lacks_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"1 of the student's 2 classes \(b\).*TEACHER.CLASSES"):
        map_classes(("a", "b"), ("a", "x", "y"), 2, 3)


def test_without_names_the_counts_must_be_equal() -> None:
    with pytest.raises(ValueError, match="student predicts 2 classes and the teacher 3"):
        map_classes((), ("a", "b", "c"), 2, 3)


def test_without_names_and_with_equal_counts_the_order_is_assumed_aloud(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert map_classes((), ("a", "b"), 2, 2) is None
    assert "assuming the same 2 classes" in caplog.text


def test_names_come_from_the_first_training_dataset() -> None:
    assert class_names(tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_cab",))) == ("cow", "ant", "bee")
    assert class_names(tiny.rcnn_cfg(DATASETS__TRAIN=())) == ()


def test_the_number_of_classes_is_known_of_every_detector() -> None:
    for model in (
        tiny.build(tiny.rcnn_cfg()),
        tiny.build(tiny.retinanet_cfg()),
        tiny.build_fcos(),
    ):
        assert num_classes(model) == tiny.NUM_CLASSES


def test_given_names_must_name_every_class_of_the_teacher() -> None:
    teacher = tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_cab",))
    for given, expected in (((), ("cow", "ant", "bee")), (("x", "y", "z"), ("x", "y", "z"))):
        cfg = tiny.rcnn_cfg(DISTILL__TEACHER__CLASSES=given)
        assert teacher_class_names(cfg, teacher, 3) == expected
    with pytest.raises(ValueError, match="DISTILL.TEACHER.CLASSES has 3 names.* predicts 4"):
        teacher_class_names(cfg, teacher, 4)

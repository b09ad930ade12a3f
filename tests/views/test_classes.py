"""Mapping of the teacher's classes by name."""

from __future__ import annotations

import pytest
from helpers import tiny

from distill.views.classes import (
    class_names,
    map_classes,
    num_classes,
    teacher_class_names,
    trained_class_names,
)


def test_equal_names_in_equal_order_need_no_map() -> None:
    assert map_classes(("a", "b"), ("a", "b"), 2, 2) is None


def test_a_permuted_superset_is_mapped_by_name() -> None:
    assert map_classes(("a", "b"), ("x", "b", "a"), 2, 3).tolist() == [2, 1]


def test_a_class_that_the_teacher_lacks_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"1 of the student's 2 classes \(b\).*TEACHER.CLASSES"):
        map_classes(("a", "b"), ("a", "x", "y"), 2, 3)


@pytest.mark.parametrize("count", [2, 3])
def test_without_names_classes_are_not_compared_even_if_their_numbers_are_equal(count: int) -> None:
    with pytest.raises(ValueError, match=f"student predicts 2 classes and the teacher {count}"):
        map_classes((), ("a", "b", "c")[:count], 2, count)
    with pytest.raises(ValueError, match=r"of the teacher are not known.*DISTILL.TEACHER.CLASSES"):
        map_classes(("a", "b"), (), 2, count)
    with pytest.raises(ValueError, match="of the student and of the teacher are not known"):
        map_classes((), (), 2, count)


def test_a_name_of_another_spelling_is_pointed_out() -> None:
    with pytest.raises(ValueError, match='did you mean "Traffic_Light" by "traffic light"'):
        map_classes(("traffic light",), ("Traffic_Light",), 1, 1)


def test_what_is_only_tested_on_does_not_name_what_was_learned() -> None:
    cfg = tiny.rcnn_cfg(DATASETS__TRAIN=(), DATASETS__TEST=("tiny_cab",))
    assert trained_class_names(cfg) == ()
    cfg = tiny.changed(cfg, DISTILL__PSEUDO__CLASSES_OF="tiny_cab")
    assert trained_class_names(cfg) == ("cow", "ant", "bee")


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

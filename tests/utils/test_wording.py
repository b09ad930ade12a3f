from __future__ import annotations

from distill.utils.wording import did_you_mean, some_of


def test_a_long_list_ends_in_dots():
    assert some_of("abc") == "a, b, c"
    assert some_of("abcd") == "a, b, c, ..."
    assert some_of("abcd", most=1) == "a, ..."


def test_an_unknown_name_gets_the_known_one_that_looks_like_it():
    known = ["Distiller", "GeneralizedRCNN", "RetinaNet"]
    assert did_you_mean("Retinanet", known) == '; did you mean "RetinaNet"?'
    assert did_you_mean("generalized_rcnn", known) == '; did you mean "GeneralizedRCNN"?'
    assert did_you_mean("distler", known) == '; did you mean "Distiller"?'
    assert did_you_mean("YOLO", known) == did_you_mean(7, known) == did_you_mean("", []) == ""

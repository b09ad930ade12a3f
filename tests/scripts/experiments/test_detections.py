"""Which detections count as right."""

from __future__ import annotations

from experiments.detections import Box, mark_right


def box(x: float, label: str, score: float | None = None) -> Box:
    return Box((x, 0.0, x + 10.0, 10.0), label, score)


def test_each_true_box_is_found_once_by_the_surest() -> None:
    truth = [box(0, "1"), box(50, "2"), box(80, "3")]
    detections = [box(1, "1", 0.9), box(0, "1", 0.8), box(50, "7", 0.7), box(88, "3", 0.6)]
    picture = mark_right(detections, truth)
    # The second repeats the first, the third has another class, the fourth overlaps too little.
    assert [detection.right for detection in picture.boxes] == [True, False, False, False]
    assert picture.missed == 2


def test_of_several_fitting_true_boxes_the_closest_is_taken() -> None:
    truth = [box(3, "1"), box(0, "1")]
    picture = mark_right([box(0, "1", 0.9), box(3, "1", 0.8)], truth)
    assert picture.missed == 0


def test_nothing_found_and_nothing_there() -> None:
    assert mark_right([], [box(0, "1")]).missed == 1
    assert not mark_right([box(0, "1", 0.9)], []).boxes[0].right

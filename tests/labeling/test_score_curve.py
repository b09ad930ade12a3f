from __future__ import annotations

import numpy as np
import pytest

from distill.labeling.score_curve import Curve, Quality, cuts, score_curve


def _curve(*boxes: tuple[float, bool], objects: int, beta: float = 1.0) -> Curve:
    scores, right = zip(*boxes, strict=True) if boxes else ((), ())
    return score_curve(
        np.array(scores, float), np.array(right, bool), objects, beta=beta, floor=0.05
    )


_BOXES = ((0.5, True), (0.9, True), (0.3, False), (0.7, False))


def test_the_curve_follows_from_the_boxes_above_each_threshold():
    curve = _curve(*_BOXES, objects=4)
    assert curve.thresholds.tolist() == [0.8, 0.6, 0.4, 0.175]
    assert curve.precision.tolist() == [1, 1 / 2, 2 / 3, 1 / 2]
    assert curve.recall.tolist() == [1 / 4, 1 / 4, 1 / 2, 1 / 2]
    # 2 right / (boxes + objects).
    assert curve.f_beta.tolist() == pytest.approx([2 / 5, 2 / 6, 4 / 7, 4 / 8])
    assert curve.best() == 0.4
    assert curve.num_right == 2


# (1 + beta²) right / (boxes + 4 beta²) of 1 right box of 1, 2 of 3 and 3 of 7.
@pytest.mark.parametrize(("beta", "best"), [(0.25, 0.8), (1, 0.4), (2, 0.1)])
def test_beta_weighs_recall(beta, best):
    more = ((0.2, False), (0.18, False), (0.15, True))
    assert _curve(*_BOXES, *more, objects=4, beta=beta).best() == best


def test_f_beta_is_the_weighted_harmonic_mean():
    quality = Quality(right=3, boxes=4, objects=10, beta=2)
    precision, recall = 3 / 4, 3 / 10
    assert (quality.precision, quality.recall) == (precision, recall)
    assert quality.f_beta == pytest.approx(5 * precision * recall / (4 * precision + recall))


def test_the_highest_of_equally_good_thresholds_is_chosen():
    # F-1 is 2/3 above 0.8 and, with a wrong and a right box more, 4/6 above 0.2.
    curve = _curve((0.9, True), (0.5, False), (0.3, False), (0.25, True), objects=2)
    assert curve.f_beta.tolist() == pytest.approx([2 / 3, 2 / 4, 2 / 5, 4 / 6])
    assert curve.best() == 0.7


def test_equal_scores_stay_together():
    curve = _curve((0.9, True), (0.9, False), (0.4, True), objects=2)
    assert curve.scores.tolist() == [0.9, 0.4]
    assert curve.boxes.tolist() == [2, 3] and curve.right.tolist() == [1, 2]


def test_the_quality_is_that_of_boxes_above_a_threshold():
    curve = _curve(*_BOXES, objects=4)
    assert curve.at(0.5) == Quality(1, 2, 4, 1.0)
    assert curve.at(0.49) == Quality(2, 3, 4, 1.0)
    assert curve.at(0.95) == Quality(0, 0, 4, 1.0)
    assert [curve.at(x) for x in curve.thresholds] == [
        Quality(*numbers, 4, 1.0) for numbers in ((1, 1), (1, 2), (2, 3), (2, 4))
    ]


def test_without_boxes_or_objects_there_is_no_share():
    nothing = _curve(objects=3).at(0.5)
    assert (nothing.precision, nothing.recall, nothing.f_beta) == (None, 0, 0)
    assert _curve(objects=3).num_right == 0
    unknown = _curve((0.9, False), objects=0)
    assert unknown.recall.tolist() == [0] and unknown.f_beta.tolist() == [0]
    assert (unknown.at(0.5).precision, unknown.at(0.5).recall) == (0, None)
    assert unknown.at(0.5).f_beta is None


def test_classes_add_up():
    assert Quality(1, 2, 3, 1.0) + Quality(4, 5, 6, 1.0) == Quality(5, 7, 9, 1.0)


def test_a_cut_parts_scores_however_close():
    scores = np.array([0.9, 0.50001, 0.5, np.nextafter(0.5, 0), 0.05 + 1e-9])
    limits = cuts(scores, 0.05)
    assert limits[1] == 0.500005
    for number, limit in enumerate(limits, start=1):
        assert (scores > limit).sum() == number and limit >= 0.05

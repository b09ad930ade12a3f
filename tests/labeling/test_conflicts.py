from __future__ import annotations

import numpy as np
from helpers.teacher_files import box, labels

from distill.labeling.conflicts import find_conflicts, resolve_conflicts

_A, _B = 1, 2


def _conflicts(found, sets, iou=0.7):
    winner, loser = find_conflicts(found, np.array(sets), iou)
    return list(zip(winner.tolist(), loser.tolist(), strict=True))


def test_the_higher_score_wins_a_conflict():
    found = labels((0, box(0), 0.6, 0), (0, box(1), 0.8, 1), (0, box(30), 0.9, 1))
    assert _conflicts(found, [_A, _B, _B]) == [(1, 0)]


def test_the_earlier_box_wins_a_tie():
    found = labels((0, box(0), 0.8, 1), (0, box(1), 0.8, 0))
    assert _conflicts(found, [_A, _B]) == [(0, 1)]


def test_what_overlaps_less_or_is_elsewhere_or_of_one_class_is_no_conflict():
    found = labels((0, box(0), 0.8, 0), (0, box(2), 0.7, 1), (0, box(0), 0.7, 0), (1, box(0), 1, 1))
    assert _conflicts(found, [_A, _B, _B, _B]) == []
    assert _conflicts(found, [_A, _B, _B, _B], iou=0.6) == [(0, 1)]


def test_what_one_teacher_tells_apart_is_no_conflict():
    found = labels((0, box(0), 0.8, 0), (0, box(0), 0.7, 1))
    assert _conflicts(found, [_A, _A]) == _conflicts(found, [_A | _B, _B]) == []


def test_what_lost_wins_over_nothing():
    # The second beats the third, but loses to the first, which leaves the third alone.
    found = labels((0, box(0), 0.9, 0), (0, box(1.5), 0.8, 1), (0, box(3), 0.7, 2))
    conflicts = _conflicts(found, [1, 2, 4])
    assert conflicts == [(0, 1), (1, 2)]
    winner, loser = np.array(conflicts).T
    assert resolve_conflicts(winner, loser, 3).tolist() == [True, False, True]

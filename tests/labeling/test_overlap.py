from __future__ import annotations

import numpy as np
import pytest
from helpers.teacher_files import box

from distill.labeling import overlap
from distill.labeling.overlap import box_iou, overlaps, self_overlaps


def test_iou_is_the_shared_part_of_both_areas():
    found = box_iou(np.array([box(0)]), np.array([box(0), box(5), box(10), box(30), box(0, 5)]))
    assert found.tolist() == [1, pytest.approx(1 / 3), 0, 0, 0.5]


def test_empty_boxes_overlap_nothing():
    assert box_iou(np.zeros(4), np.zeros(4)) == 0


@pytest.mark.parametrize("pairs", [1, 1 << 18])
def test_pairs_are_found_within_each_group(monkeypatch, pairs):
    monkeypatch.setattr(overlap, "_PAIRS", pairs)
    groups, boxes = np.array([0, 2, 2, 5]), np.array([box(0), box(1), box(40), box(0)])
    others = np.array([box(0), box(0), box(1), box(2), box(0)])
    one, other = overlaps(groups, boxes, np.array([0, 2, 2, 2, 3]), others, 0.8)
    # By hand: 9 of 11 columns are shared one to the side.
    expected = [(0, 0), (1, 1), (1, 2), (1, 3)]
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == expected


@pytest.mark.parametrize("pairs", [1, 1 << 18])
def test_pairs_of_one_list_come_once(monkeypatch, pairs):
    monkeypatch.setattr(overlap, "_PAIRS", pairs)
    boxes = np.array([box(0), box(0), box(50), box(0), box(0)])
    one, other = self_overlaps(np.array([0, 0, 0, 0, 1]), boxes, 0.5)
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 3)]


def test_an_iou_at_the_limit_is_no_overlap():
    boxes = np.array([box(0), box(0, 5)])
    assert len(self_overlaps(np.zeros(2), boxes, 0.5)[0]) == 0
    assert len(self_overlaps(np.zeros(2), boxes, 0.49)[0]) == 1


def test_without_boxes_there_are_no_pairs():
    none, empty = np.zeros(0, int), np.zeros((0, 4))
    assert [len(x) for x in self_overlaps(none, empty, 0.5)] == [0, 0]
    assert [len(x) for x in overlaps(none, empty, np.zeros(1, int), np.ones((1, 4)), 0.5)] == [0, 0]

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.teacher_files import box, labels
from torchvision.ops import nms as torchvision_nms

from distill.data.pseudo.labels import PseudoLabels
from distill.labeling import fusion
from distill.labeling.fusion import by_class, nms, soft_nms, weighted_boxes

_ONE = np.array([1])
_TWO = np.array([2])


def _random(seed: int, count: int, images: int = 3, teachers: int = 3) -> PseudoLabels:
    """Clusters of boxes of two classes."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(-1, 2, (count, 2)) * 30 + rng.normal(0, 3, (count, 2))
    found = PseudoLabels(
        np.sort(rng.integers(0, images, count)),
        np.hstack([corner, corner + rng.uniform(25, 35, (count, 2))]),
        rng.uniform(0.1, 1, count),
        rng.integers(0, 2, count),
        rng.integers(0, teachers, count),
    )
    return found.select(by_class(found))


def test_the_order_is_by_image_class_and_falling_score():
    found = labels((0, box(0), 0.2, 1), (0, box(0), 0.9, 1), (0, box(0), 0.2, 0), (1, box(0), 1, 0))
    assert by_class(found).tolist() == [2, 1, 0, 3]


def test_nms_keeps_the_highest_scores_of_each_class_and_image():
    found = labels(
        (0, box(0), 0.9, 0),
        (0, box(1), 0.8, 0),
        (0, box(30), 0.7, 0),
        (0, box(0), 0.6, 1),
        (1, box(0), 0.5, 1),
    )
    fused = nms(found, 0.5)
    assert fused.labels.scores.tolist() == [0.9, 0.7, 0.6, 0.5]
    assert fused.labels.image.tolist() == [0, 0, 0, 1]
    assert fused.member.tolist() == [0, 0, 1, 2, 3]


def test_nms_keeps_classes_apart_where_coordinates_are_negative():
    found = labels((0, [40, 40, 50, 50], 0.9, 0), (0, [-11, -11, -1, -1], 0.8, 1))
    assert nms(found, 0.5).member.tolist() == [0, 1]


def test_nms_counts_a_box_to_the_one_that_suppressed_it():
    # The third overlaps both, the second's IoU with the first is below the limit.
    found = labels((0, box(0), 0.9, 0), (0, box(4), 0.8, 0), (0, box(2), 0.7, 0))
    assert nms(found, 0.5).member.tolist() == [0, 1, 0]


def test_nms_keeps_the_first_of_equal_scores():
    found = labels((0, box(0), 0.9, 0), (0, box(1), 0.9, 0), (0, box(2), 0.9, 0))
    assert nms(found, 0.5).labels.boxes.tolist() == [box(0)]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_nms_equals_that_of_each_class_by_itself(monkeypatch, block):
    monkeypatch.setattr(fusion, "_NMS_BOXES", block)
    found = _random(0, 150)
    kept = nms(found, 0.4).labels
    for image in range(3):
        for category in range(2):
            own = found.select((found.image == image) & (found.classes == category))
            index = torchvision_nms(torch.tensor(own.boxes), torch.tensor(own.scores), 0.4)
            here = (kept.image == image) & (kept.classes == category)
            assert kept.boxes[here].tolist() == own.boxes[index.numpy()].tolist()
    assert 6 < len(kept) < 150


def test_a_fused_box_is_the_mean_weighted_by_score():
    found = labels((0, box(0), 0.9, 0), (0, box(2), 0.6, 0), teacher=[0, 1])
    fused = weighted_boxes(found, 0.5, _TWO)
    # 0.6 * 2 / 1.5 = 0.8 to the right; both know the class, both found it.
    assert fused.labels.boxes.round(9).tolist() == [box(0.8)]
    assert fused.labels.scores.tolist() == [pytest.approx(0.75)]
    assert fused.member.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("teacher", "voters", "score"),
    [([0, 1], 2, 0.75), ([0, 1], 4, 0.375), ([0, 0], 2, 0.375), ([1, 1], 1, 0.75)],
)
def test_a_fused_score_falls_by_the_share_of_teachers_that_found_it(teacher, voters, score):
    found = labels((0, box(0), 0.9, 0), (0, box(0), 0.6, 0), teacher=teacher)
    fused = weighted_boxes(found, 0.5, np.array([voters]))
    assert fused.labels.scores.tolist() == [pytest.approx(score)]


def test_a_class_that_one_teacher_knows_keeps_its_score():
    found = labels((0, box(0), 0.9, 0), (0, box(0), 0.8, 1), teacher=[0, 0])
    fused = weighted_boxes(found, 0.5, np.array([2, 1]))
    assert fused.labels.scores.round(9).tolist() == [0.45, 0.8]


def test_a_box_joins_the_fused_box_as_it_is_by_then():
    # The third's IoU with the first is 5/15, with the mean of the first two 13/27.
    found = labels((0, box(0), 0.5, 0), (0, box(3), 0.5, 0), (0, box(5), 0.4, 0))
    assert weighted_boxes(found, 0.4, _ONE).member.tolist() == [0, 0, 0]
    assert weighted_boxes(found, 0.5, _ONE).member.tolist() == [0, 0, 1]


def test_a_box_joins_the_fused_box_it_overlaps_most():
    found = labels((0, box(0), 0.9, 0), (0, box(8), 0.8, 0), (0, box(5), 0.7, 0))
    assert weighted_boxes(found, 0.1, _ONE).member.tolist() == [0, 0, 0]
    assert weighted_boxes(found, 0.2, _ONE).member.tolist() == [0, 1, 1]


def _weighted_boxes_one_by_one(found: PseudoLabels, iou: float) -> list[tuple]:
    """The paper's algorithm for boxes of one class and image, with lists."""
    clusters: list[list[int]] = []
    fused: list[np.ndarray] = []
    for i, corners in enumerate(found.boxes):
        shared = [float(fusion.box_iou(corners, mean)) for mean in fused]
        best = int(np.argmax(shared)) if shared else -1
        if best < 0 or shared[best] <= iou:
            best = len(clusters)
            clusters.append([])
            fused.append(corners)
        clusters[best].append(i)
        own = clusters[best]
        fused[best] = np.average(found.boxes[own], axis=0, weights=found.scores[own])
    scores = [found.scores[x].mean() * len(set(found.teacher[x].tolist())) / 3 for x in clusters]
    return sorted(
        (round(s, 9), *mean.round(6).tolist()) for s, mean in zip(scores, fused, strict=True)
    )


@pytest.mark.parametrize("cells", [1, 64, 1 << 18])
def test_box_fusion_of_many_groups_equals_that_of_each(monkeypatch, cells):
    monkeypatch.setattr(fusion, "_CELLS", cells)
    found = _random(1, 150)
    fused = weighted_boxes(found, 0.55, np.array([3, 3])).labels
    for image in range(3):
        for category in range(2):
            own = found.select((found.image == image) & (found.classes == category))
            here = fused.select((fused.image == image) & (fused.classes == category))
            rows = np.column_stack([here.scores.round(9), here.boxes.round(6)])
            expected = _weighted_boxes_one_by_one(own, 0.55)
            assert sorted(map(tuple, rows.tolist())) == expected
    assert 6 < len(fused) < 150


def test_soft_nms_lowers_scores_by_the_overlap_with_better_boxes():
    found = labels((0, box(0), 0.9, 0), (0, box(0, 5), 0.8, 0), (0, box(30), 0.7, 0))
    fused = soft_nms(found)
    expected = [0.9, 0.8 * np.exp(-(0.5**2) / 0.5), 0.7]
    assert fused.labels.scores.tolist() == pytest.approx(expected)
    assert fused.member.tolist() == [0, 1, 2]


def test_soft_nms_goes_on_with_the_highest_score_that_is_left():
    # The second falls below the third, and is lowered by it too; not the other way round.
    found = labels((0, box(0), 0.9, 0), (0, box(0), 0.8, 0), (0, box(0, 5), 0.7, 0))
    half = np.exp(-0.5)
    expected = [0.9, 0.8 * np.exp(-2) * half, 0.7 * half]
    assert soft_nms(found).labels.scores.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("cells", [1, 64, 1 << 18])
def test_soft_nms_of_many_groups_equals_that_of_each(monkeypatch, cells):
    monkeypatch.setattr(fusion, "_CELLS", cells)
    found = _random(2, 120)
    scores = soft_nms(found).labels.scores
    for image in range(3):
        for category in range(2):
            here = (found.image == image) & (found.classes == category)
            left, expected = dict(enumerate(found.scores[here])), np.zeros(here.sum())
            while left:
                best = max(left, key=left.get)
                expected[best] = left.pop(best)
                for i in left:
                    shared = fusion.box_iou(found.boxes[here][best], found.boxes[here][i])
                    left[i] *= np.exp(-(shared**2) / 0.5)
            assert scores[here] == pytest.approx(expected)


@pytest.mark.parametrize(
    "fuse", [lambda x: nms(x, 0.5), lambda x: weighted_boxes(x, 0.5, _TWO), soft_nms]
)
def test_without_boxes_nothing_is_fused(fuse):
    fused = fuse(labels())
    assert len(fused.labels) == len(fused.member) == 0


def test_members_follow_a_selection():
    found = labels((0, box(0), 0.9, 0), (0, box(1), 0.8, 0), (0, box(30), 0.7, 0))
    fused = nms(found, 0.5)
    assert fused.united(np.array([1, 2, 4])).tolist() == [3, 4]
    turned = fused.select(np.array([1, 0]))
    assert turned.member.tolist() == [1, 1, 0] and turned.labels.scores.tolist() == [0.7, 0.9]
    last = fused.select(np.array([1]))
    assert last.member.tolist() == [-1, -1, 0] and last.united(np.array([1, 2, 4])).tolist() == [4]

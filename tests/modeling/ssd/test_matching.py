from __future__ import annotations

import torch
from detectron2.modeling.box_regression import Box2BoxTransform

from distill.modeling.ssd import box_deltas, match_anchors

# Four cells in a row, and a box over the first two.
ANCHORS = torch.tensor(
    [[0.0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [30, 0, 40, 10], [0, 0, 20, 10]]
)


def matched(
    *images: list[list[float]], threshold: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    places = max(map(len, images)) + 1
    boxes = torch.zeros(len(images), places, 4)
    valid = torch.zeros(len(images), places, dtype=torch.bool)
    for row, image in enumerate(images):
        boxes[row, : len(image)] = torch.tensor(image).reshape(-1, 4)
        valid[row, : len(image)] = True
    return match_anchors(ANCHORS, boxes, valid, threshold)


def positives(positive: torch.Tensor) -> list[list[int]]:
    return [row.nonzero()[:, 0].tolist() for row in positive]


def test_an_anchor_above_the_threshold_is_positive() -> None:
    # IoU 8/10 with anchor 0 (its best), and 8/20 with anchor 4.
    assert positives(matched([[0, 0, 8, 10]])[1]) == [[0]]
    assert positives(matched([[0, 0, 8, 10]], threshold=0.39)[1]) == [[0, 4]]


def test_an_anchor_exactly_at_the_threshold_is_not() -> None:
    # IoU 1 with anchor 4, 1/2 with the anchors 0 and 1.
    assert positives(matched([[0, 0, 20, 10]])[1]) == [[4]]


def test_the_best_anchor_of_an_object_is_positive_whatever_its_iou() -> None:
    # IoU 4/10 with anchor 2, 0 with the others.
    index, positive = matched([[22, 0, 26, 10]])
    assert positives(positive) == [[2]] and index[0, 2] == 0


def test_the_best_anchor_belongs_to_its_object_though_another_overlaps_it_more() -> None:
    # The first has IoU 1 with anchor 4 and 1/2 with anchor 0; the second 0.2 with anchor 0.
    index, positive = matched([[0, 0, 20, 10], [0, 0, 2, 10]], threshold=0.4)
    assert positives(positive) == [[0, 1, 4]]
    assert index[0, [0, 1, 4]].tolist() == [1, 0, 0]


def test_of_two_objects_with_the_same_best_anchor_the_closer_one_gets_it() -> None:
    index, positive = matched([[30, 0, 33, 10], [30, 0, 36, 10]])
    assert positives(positive) == [[3]] and index[0, 3] == 1


def test_of_equally_good_anchors_and_objects_the_first_counts() -> None:
    # 5/15 with both of the anchors 2 and 3.
    assert positives(matched([[25, 0, 35, 10]])[1]) == [[2]]
    index, positive = matched([[22, 0, 26, 10], [22, 0, 26, 10]])
    assert positives(positive) == [[2]] and index[0, 2] == 0


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    index, positive = matched([], [[20, 0, 30, 10], [30, 0, 40, 10]], [[30, 0, 40, 10]])
    assert positives(positive) == [[], [2, 3], [3]]
    assert index[1, [2, 3]].tolist() == [0, 1] and index[2, 3] == 0


def test_an_object_without_area_or_off_the_anchors_gets_none() -> None:
    assert positives(matched([[5, 5, 5, 9]], [[5, 5, 5, 5]], [[90, 90, 95, 95]])[1]) == [[]] * 3


def test_deltas_are_those_of_detectron2() -> None:
    boxes = ANCHORS + torch.tensor([1.0, -2, 4, 3])
    weights = (10.0, 10.0, 5.0, 5.0)
    expected = Box2BoxTransform(weights=weights).get_deltas(ANCHORS, boxes)
    torch.testing.assert_close(box_deltas(ANCHORS, boxes[None], weights), expected[None])

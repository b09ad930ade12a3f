from __future__ import annotations

import torch

from distill.modeling.gfl import valuable_region

# Six squares of 10 in a row.
ANCHORS = torch.tensor([[x, 0.0, x + 10, 10.0] for x in range(0, 60, 10)])


def region(
    boxes: list[list[float]], levels: list[torch.Tensor] | None = None, **settings
) -> list[int]:
    table = torch.tensor([*boxes, [0.0, 0, 0, 0]])[None]
    valid = torch.tensor([[True] * len(boxes) + [False]])
    (inside,) = valuable_region(levels or [ANCHORS], table, valid, **settings)
    return inside.nonzero()[:, 0].tolist()


def test_it_lies_between_a_quarter_of_the_threshold_and_the_threshold() -> None:
    # IoUs 0.556, 0.4 and four of 0: the threshold is 0.411. DIoU 0.518, 0.4 - 36/500 = 0.328, < 0.
    assert region([[0, 0, 18, 10]]) == [1]
    # From 0.9 times that, 0.370, on; then from 0.75 times, 0.308.
    assert region([[0, 0, 18, 10]], fraction=0.9) == []
    assert region([[0, 0, 18, 10]], fraction=0.75) == [1]


def test_the_fraction_is_a_quarter_unless_told_otherwise() -> None:
    # With one candidate, anchor 1 with 10/26, that is the threshold; the DIoU of anchor 0 is
    # 10/26 - 64/776 = 0.302, that of anchor 2 is 6/30 - 144/1000 = 0.056.
    assert region([[0, 0, 26, 10]], topk=1) == [0]
    assert region([[0, 0, 26, 10]], topk=1, fraction=0.1) == [0, 2]


def test_an_anchor_far_from_the_candidates_may_be_in_it() -> None:
    # With one candidate, anchor 1 with 10/30, that is the threshold; the DIoU of the anchors 0 and
    # 2 is 10/30 - 100/1000.
    assert region([[0, 0, 30, 10]], topk=1) == [0, 2]


def test_positives_are_not_in_it_though_their_diou_is_below_the_threshold() -> None:
    # Both candidates have an IoU of 1/2, which is the threshold, and a DIoU of 1/2 - 25/500.
    assert region([[0, 0, 20, 10]], topk=2) == []


def test_it_is_the_union_over_the_objects_but_for_all_their_positives() -> None:
    assert region([[0, 0, 18, 10], [42, 0, 60, 10]]) == [1, 4]
    # Anchor 1 is positive for the second object.
    assert region([[0, 0, 18, 10], [10, 0, 19, 10]]) == []


def test_levels_are_joined_in_their_order() -> None:
    levels = [ANCHORS[:0], ANCHORS[:1], ANCHORS[:0], ANCHORS[1:]]
    assert region([[0, 0, 18, 10]], levels) == region([[0, 0, 18, 10]]) == [1]


def test_no_object_and_objects_without_area_have_none() -> None:
    assert region([]) == region([[5, 5, 5, 5]]) == region([[10, 0, 10, 10]]) == []
    padded = torch.tensor([[[0.0, 0, 18, 10]]])
    assert not valuable_region([ANCHORS], padded, torch.tensor([[False]])).any()


def test_an_anchor_weighs_as_much_as_its_iou_with_the_object_it_is_valuable_for() -> None:
    # One object, then beside it another that overlaps anchor 1 less.
    boxes = torch.tensor([[[0.0, 0, 18, 10], [0, 0, 0, 0]], [[0, 0, 18, 10], [14, 0, 50, 10]]])
    weight = valuable_region([ANCHORS], boxes, torch.tensor([[True, False], [True, True]]))
    torch.testing.assert_close(weight[:, 1], torch.tensor([8 / 20, 8 / 20]))
    assert weight[0].count_nonzero() == 1

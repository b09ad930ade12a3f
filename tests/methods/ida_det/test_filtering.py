"""Filters of padded proposals, against torchvision's suppression and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from distill.methods.ida_det.filtering import filter_proposals, join_proposals, suppress_overlaps
from distill.views.proposals import Proposals


def boxes_at_random(images: int, count: int, spread: float = 100.0) -> Tensor:
    corner = torch.rand(images, count, 2) * spread
    return torch.cat([corner, corner + 5 + torch.rand(images, count, 2) * 40], dim=-1)


def proposals_of(objectness: list[list[float]], valid: list[list[int]] | None = None) -> Proposals:
    """Boxes far from each other, each told by its left edge 100 * image + place."""
    scores = torch.tensor(objectness)
    places = torch.arange(scores.shape[1]) + 100.0 * torch.arange(len(scores))[:, None]
    boxes = torch.stack([places, 50 * places, places + 1, 50 * places + 1], dim=-1)
    used = torch.ones_like(scores) if valid is None else torch.tensor(valid)
    return Proposals(boxes, scores, used.bool())


def kept_places(proposals: Proposals) -> list[list[int]]:
    """Places in their image of the boxes that are left, in their order."""
    places = proposals.boxes[..., 0].int() % 100
    return [row[used].tolist() for row, used in zip(places, proposals.valid, strict=True)]


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("spread", [20.0, 100.0, 400.0])
def test_what_is_kept_is_what_torchvision_keeps(threshold: float, spread: float) -> None:
    boxes = boxes_at_random(3, 200, spread)
    valid = torch.rand(3, 200) < 0.9
    kept = suppress_overlaps(boxes, valid, threshold)
    # The best first: falling scores.
    scores = torch.arange(200, 0, -1).float()
    for places, used, found in zip(boxes, valid, kept, strict=True):
        expected = torch.zeros(200, dtype=torch.bool)
        expected[used.nonzero()[:, 0][nms(places[used], scores[used], threshold)]] = True
        assert torch.equal(found, expected)


def test_a_chain_of_overlaps_leaves_every_second_box() -> None:
    # Each box overlaps its neighbors alone, by a third.
    left = 5.0 * torch.arange(30)
    boxes = torch.stack([left, 0 * left, left + 10, 0 * left + 10], dim=1)[None]
    kept = suppress_overlaps(boxes, torch.ones(1, 30, dtype=torch.bool), 0.3)
    assert kept[0].tolist() == [True, False] * 15
    assert suppress_overlaps(boxes, torch.ones(1, 30, dtype=torch.bool), 0.34).all()


def test_boxes_that_are_not_valid_suppress_none() -> None:
    box = torch.tensor([0.0, 0, 10, 10]).expand(1, 3, -1)
    valid = torch.tensor([[False, True, True]])
    assert suppress_overlaps(box, valid, 0.5).tolist() == [[False, True, False]]


def test_boxes_without_area_overlap_nothing() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]]])
    kept = suppress_overlaps(boxes, torch.ones(1, 4, dtype=torch.bool), 0.5)
    assert kept.tolist() == [[True, True, True, False]]


def test_without_filters_the_valid_ones_are_sorted() -> None:
    proposals = proposals_of([[0.2, 0.9, 0.5], [0.7, 0.1, 0.8]], [[1, 1, 1], [1, 0, 1]])
    found = filter_proposals(proposals)
    assert kept_places(found) == [[1, 2, 0], [2, 0]]
    assert found.objectness[0].tolist() == pytest.approx([0.9, 0.5, 0.2])


def test_each_image_keeps_its_own_best() -> None:
    proposals = proposals_of([[0.1, 0.4, 0.3, 0.2], [0.9, 0.6, 0.7, 0.8]])
    found = filter_proposals(proposals, topk=2)
    assert kept_places(found) == [[1, 2], [0, 3]] and found.boxes.shape == (2, 2, 4)
    assert kept_places(filter_proposals(proposals, topk=99)) == [[1, 2, 3, 0], [0, 3, 2, 1]]


def test_padding_never_comes_back() -> None:
    # Its objectness is 0 by contract, but nothing depends on it.
    proposals = proposals_of([[0.3, 0.9, 0.2, 0.9]], [[1, 0, 1, 0]])
    for filters in (
        {},
        {"topk": 3},
        {"threshold": 0.25, "fallback": 4},
        {"nms_threshold": 0.5},
        {"topk": 4, "threshold": 0.1, "fallback": 9, "nms_threshold": 0.9},
    ):
        assert kept_places(filter_proposals(proposals, **filters))[0] == [0, 2]
    assert kept_places(filter_proposals(proposals, topk=1)) == [[0]]


@pytest.mark.parametrize(
    ("threshold", "fallback", "expected"),
    [
        (0.0, 0, [[2, 0, 1], [0, 1, 2]]),
        (0.5, 0, [[2, 0], []]),
        (0.5, 1, [[2, 0], [0]]),
        (0.5, 2, [[2, 0], [0, 1]]),
        # The fallback adds to what is above the threshold, it does not cut it.
        (0.25, 1, [[2, 0, 1], [0]]),
        # Above, not at.
        (0.75, 0, [[2], []]),
    ],
)
def test_only_confident_ones_pass_but_always_the_best_few(
    threshold: float, fallback: int, expected: list[list[int]]
) -> None:
    proposals = proposals_of([[0.75, 0.3, 0.8], [0.25, 0.2, 0.1]])
    found = filter_proposals(proposals, threshold=threshold, fallback=fallback)
    assert kept_places(found) == expected


def test_suppression_follows_the_threshold_in_each_image() -> None:
    boxes = torch.tensor(
        [
            [[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]],
            [[0.0, 0, 10, 10], [50, 0, 60, 9], [50, 0, 60, 10]],
        ]
    )
    objectness = torch.tensor([[0.4, 0.6, 0.5], [0.4, 0.6, 0.7]])
    proposals = Proposals(boxes, objectness, torch.ones(2, 3, dtype=torch.bool))
    found = filter_proposals(proposals, nms_threshold=0.5)
    assert [x[v].tolist() for x, v in zip(found.objectness, found.valid, strict=True)] == [
        pytest.approx([0.6, 0.5]),
        pytest.approx([0.7, 0.4]),
    ]


def test_joined_proposals_stay_in_their_images() -> None:
    first = proposals_of([[0.1, 0.2], [0.3, 0.4]], [[1, 1], [1, 0]])
    second = proposals_of([[0.5], [0.6]], [[0], [1]])
    both = join_proposals(first, second)
    assert both.boxes.shape == (2, 3, 4)
    torch.testing.assert_close(both.objectness, torch.tensor([[0.1, 0.2, 0.5], [0.3, 0.4, 0.6]]))
    assert both.valid.tolist() == [[True, True, False], [True, False, True]]
    assert torch.equal(both.boxes[:, 2], second.boxes[:, 0])


def test_no_proposals_pass_through_everything() -> None:
    empty = Proposals(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool))
    found = filter_proposals(empty, topk=5, threshold=0.5, fallback=3, nms_threshold=0.5)
    assert found.boxes.shape == (2, 0, 4) and found.valid.shape == (2, 0)
    full = proposals_of([[0.5], [0.6]])
    assert kept_places(join_proposals(empty, full)) == kept_places(full)

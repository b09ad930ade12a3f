"""How many proposals are selected, which, and in what order."""

from __future__ import annotations

import math

import pytest
import torch

from distill.methods.ida_det.selection import check_fraction, select_most_discrepant, select_top

FRACTIONS = (0.1, 0.25, 0.29, 0.35, 0.5, 0.6, 0.9, 1.0)


def number(fraction: float, n: int) -> int:
    """k = max(1, fraction * n rounded half up), of n proposals."""
    return min(n, max(1, math.floor(fraction * n + 0.5)))


def test_the_most_discrepant_come_first() -> None:
    values = torch.tensor([0.5, 4.0, -1.0, 3.0, 2.0])
    assert select_most_discrepant(values, 0.6).tolist() == [1, 3, 4]
    assert select_most_discrepant(values, 1.0).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize(
    ("n", "fraction", "k"),
    [
        (0, 0.6, 0),
        (1, 0.6, 1),
        (1, 0.01, 1),
        (5, 0.5, 3),  # 2.5: half up
        (3, 0.5, 2),  # 1.5
        (4, 0.6, 2),  # 2.4
        (6, 0.6, 4),  # 3.6
        (9, 0.1, 1),  # fewer than 1 / fraction
        (3, 0.1, 1),
        (7, 1.0, 7),
    ],
)
def test_how_many_are_selected(n: int, fraction: float, k: int) -> None:
    index = select_most_discrepant(torch.rand(n), fraction)
    assert index.shape == (k,) and index.dtype == torch.int64
    assert len(set(index.tolist())) == k


def test_what_is_not_a_number_comes_last() -> None:
    nan, inf = float("nan"), float("inf")
    values = torch.tensor([nan, 1.0, nan, -inf, inf, -5.0])
    order = select_most_discrepant(values, 1.0).tolist()
    assert order[:3] == [4, 1, 5] and set(order[3:]) == {0, 2, 3}
    assert set(select_most_discrepant(values, 0.5).tolist()) == {4, 1, 5}


@pytest.mark.parametrize("fraction", [0, 0.0, 2, 1.0001, -0.5, float("nan"), float("inf")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"DISTILL.IDaDet.FRACTION is .*above 0 and at most 1"):
        check_fraction(fraction, "DISTILL.IDaDet.FRACTION")
    with pytest.raises(ValueError, match="fraction is"):
        select_most_discrepant(torch.rand(3), fraction)
    with pytest.raises(ValueError, match="fraction is"):
        select_top(torch.rand(1, 3), torch.ones(1, 3, dtype=torch.bool), fraction)


def test_a_fraction_in_range_is_returned() -> None:
    assert check_fraction(1) == 1 and check_fraction(0.6) == 0.6


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_every_image_has_its_own_number_and_keeps_valid_ones_only(fraction: float) -> None:
    total = 101
    # Image n has n valid proposals, anywhere among the padding.
    rank = torch.rand(total + 1, total).argsort(1).argsort(1)
    valid = rank < torch.arange(total + 1)[:, None]
    # Padding has the largest values, some of them infinite.
    scores = torch.randn(total + 1, total).masked_fill(~valid, 99.0)
    scores[:, ::2] = scores[:, ::2].masked_fill(~valid[:, ::2], float("inf"))
    index, kept = select_top(scores, valid, fraction)
    assert kept.sum(1).tolist() == [number(fraction, n) for n in range(total + 1)]
    assert valid.gather(1, index)[kept].all()


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_padding_changes_nothing(fraction: float) -> None:
    for n in (0, 1, 2, 49, 50):
        scores = torch.randn(n)
        padded = torch.full((1, 64), float("nan"))
        padded[0, 5 : 5 + n] = scores
        valid = torch.zeros(1, 64, dtype=torch.bool)
        valid[0, 5 : 5 + n] = True
        index, kept = select_top(padded, valid, fraction)
        assert (index[kept] - 5).tolist() == select_most_discrepant(scores, fraction).tolist()


def test_valid_proposals_come_before_padding_whatever_their_values() -> None:
    nan, inf = float("nan"), float("inf")
    scores = torch.tensor([[nan, inf, -inf, 5.0]])
    valid = torch.tensor([[True, False, True, False]])
    index, kept = select_top(scores, valid, 1.0)
    assert set(index[kept].tolist()) == {0, 2}


def test_each_image_is_sorted() -> None:
    scores, valid = torch.randn(3, 20), torch.rand(3, 20) < 0.7
    index, kept = select_top(scores, valid, 0.8)
    for row, used, values, ok in zip(index, kept, scores, valid, strict=True):
        expected = values[ok].sort(descending=True).values[: used.sum()]
        assert torch.equal(values[row[used]], expected)


def test_images_without_any_proposal_select_none() -> None:
    index, kept = select_top(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), 0.6)
    assert index.shape == kept.shape == (2, 0)
    index, kept = select_top(torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.bool), 0.6)
    assert index.shape == (2, 3) and not kept.any()

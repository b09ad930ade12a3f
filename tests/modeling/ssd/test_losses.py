from __future__ import annotations

import math

import pytest
import torch

from distill.modeling.ssd import mine_hard_negatives, multibox_loss


def test_negatives_are_the_hardest_of_each_image_in_proportion_to_its_positives() -> None:
    loss = torch.tensor([[9.0, 1, 5, 3, 2, 4], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]])
    positive = torch.zeros(3, 6, dtype=torch.bool)
    positive[0, 0] = positive[1, 4] = positive[1, 5] = True
    chosen = mine_hard_negatives(loss, positive, 1.5)
    # 1.5 of the first image rounds up; the third has no positive, and so no negative.
    assert [row.nonzero()[:, 0].tolist() for row in chosen] == [[2, 5], [0, 1, 2], []]


def test_there_are_no_more_negatives_than_anchors_and_the_first_of_equals_are_taken() -> None:
    positive = torch.tensor([[True, True, False, False], [False, False, False, True]])
    chosen = mine_hard_negatives(torch.ones(2, 4), positive, 2.0)
    assert chosen.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_the_losses_by_hand() -> None:
    # One class and the background. The first anchor is positive; of four negatives three count.
    logits = torch.tensor([[[0.0, 0], [2, 0], [-1, 0], [1, 0], [0, 0]]])
    labels = torch.tensor([[0, 1, 1, 1, 1]])
    deltas = torch.zeros(1, 5, 4)
    deltas[0, 0] = torch.tensor([0.5, 2, 0, -1])
    deltas[0, 1] = 7
    loss_cls, loss_box = multibox_loss(logits, deltas, labels, torch.zeros(1, 5, 4))
    expected = 2 * math.log(2) + math.log1p(math.exp(2)) + math.log1p(math.exp(1))
    assert loss_cls.item() == pytest.approx(expected, rel=1e-6)
    assert loss_box.item() == pytest.approx(0.125 + 1.5 + 0.5)


def test_both_are_divided_by_the_positives_of_the_batch() -> None:
    logits = torch.zeros(3, 4, 2)
    labels = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    target = torch.ones(3, 4, 4)
    loss_cls, loss_box = multibox_loss(
        logits, torch.zeros(3, 4, 4), labels, target, negative_ratio=1
    )
    # 3 positives; 1 + 2 + 0 negatives; each box costs 4 * 1/2.
    assert loss_cls.item() == pytest.approx(6 * math.log(2) / 3)
    assert loss_box.item() == pytest.approx(2)


def test_only_chosen_anchors_get_a_gradient() -> None:
    logits = torch.tensor([[[0.0, 0], [2, 0], [1, 0]]], requires_grad=True)
    deltas = torch.ones(1, 3, 4, requires_grad=True)
    labels = torch.tensor([[0, 1, 1]])
    sum(multibox_loss(logits, deltas, labels, deltas.detach() * 0, negative_ratio=1)).backward()
    assert logits.grad[0].abs().sum(1).ne(0).tolist() == [True, True, False]
    assert deltas.grad[0].abs().sum(1).ne(0).tolist() == [True, False, False]


def test_without_positives_the_losses_are_zero_with_zero_gradients() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    deltas = torch.randn(2, 3, 4, requires_grad=True)
    losses = multibox_loss(logits, deltas, torch.full((2, 3), 3), torch.zeros(2, 3, 4))
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0, 0]
    assert torch.all(logits.grad == 0) and torch.all(deltas.grad == 0)


def test_half_precision_predictions_give_finite_float32_losses() -> None:
    logits = torch.tensor([[[6e4, -6e4], [6e4, -6e4]]], dtype=torch.float16)
    losses = multibox_loss(
        logits, torch.full((1, 2, 4), 6e4).half(), torch.tensor([[0, 1]]), torch.zeros(1, 2, 4)
    )
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses)
    assert losses[0].item() == pytest.approx(1.2e5, rel=1e-3)

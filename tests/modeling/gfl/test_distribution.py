from __future__ import annotations

import math

import pytest
import torch

from distill.modeling.gfl import expected_distance


def test_it_is_the_mean_of_the_bins() -> None:
    # Probabilities 1/4, 0, 3/4, and then 1/3 each.
    logits = torch.tensor([[0.0, -math.inf, math.log(3)], [7.0, 7.0, 7.0]])
    assert expected_distance(logits).tolist() == pytest.approx([1.5, 1.0])


def test_logits_of_200_pick_one_bin_and_have_finite_gradients() -> None:
    logits = torch.full((2, 17), -200.0)
    logits[0, 16] = logits[1, 0] = 200.0
    logits.requires_grad_()
    distance = expected_distance(logits)
    assert distance.tolist() == [16, 0]
    distance.sum().backward()
    assert logits.grad.isfinite().all()


def test_half_precision_logits_give_a_float32_distance() -> None:
    logits = torch.zeros(3, 17, dtype=torch.bfloat16)
    torch.testing.assert_close(expected_distance(logits), torch.full((3,), 8.0))

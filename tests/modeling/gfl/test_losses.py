from __future__ import annotations

import math

import pytest
import torch

from distill.modeling.gfl import distribution_focal_loss, quality_focal_loss

LOG3 = math.log(3)


def test_quality_focal_loss_by_hand() -> None:
    # p = 3/4 against 0, 1/4 and 3/4.
    loss = quality_focal_loss(torch.full((3,), LOG3), torch.tensor([0.0, 0.25, 0.75]))
    entropy = [
        math.log(4),
        0.25 * math.log(4 / 3) + 0.75 * math.log(4),
        0.75 * math.log(4 / 3) + 0.25 * math.log(4),
    ]
    expected = [0.75**2 * entropy[0], 0.5**2 * entropy[1], 0.0]
    assert loss.tolist() == pytest.approx(expected)


def test_beta_is_the_exponent_of_the_distance() -> None:
    logits, quality = torch.zeros(1), torch.tensor([0.25])
    plain, weighted = (quality_focal_loss(logits, quality, beta).item() for beta in (0.0, 3.0))
    assert plain == pytest.approx(math.log(2))
    assert weighted == pytest.approx(math.log(2) / 64)


def test_the_quality_focal_loss_has_the_gradient_of_its_formula() -> None:
    logits = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float32, requires_grad=True)
    quality = torch.tensor([0.0, 0.9, 0.4])

    def slope(step: float) -> torch.Tensor:
        x, y = logits.detach().double(), quality.double()
        ends = []
        for z in (x + step, x - step):
            p = z.sigmoid()
            ends.append((y - p) ** 2 * -(y * p.log() + (1 - y) * (1 - p).log()))
        return (ends[0] - ends[1]) / (2 * step)

    quality_focal_loss(logits, quality).sum().backward()
    torch.testing.assert_close(logits.grad, slope(1e-5).float(), atol=1e-5, rtol=1e-4)


def test_quality_focal_loss_is_finite_at_logits_of_200() -> None:
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    loss = quality_focal_loss(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]))
    assert loss.tolist() == pytest.approx([200, 200, 0, 0])
    loss.sum().backward()
    assert logits.grad.isfinite().all()


def test_distribution_focal_loss_by_hand() -> None:
    # Probabilities 1/2, 1/4, 1/4 of the bins 0, 1, 2.
    logits = torch.tensor([[math.log(2), 0.0, 0.0]]).expand(3, 3)
    loss = distribution_focal_loss(logits, torch.tensor([0.0, 0.25, 1.5]))
    expected = [
        math.log(2),
        0.75 * math.log(2) + 0.25 * math.log(4),
        math.log(4),
    ]
    assert loss.tolist() == pytest.approx(expected)


def test_the_distribution_that_splits_between_the_two_bins_is_the_best() -> None:
    distance = torch.tensor([2.75])
    best = torch.tensor([[0.0, 0.0, 0.25, 0.75]]).clamp(min=1e-9).log().requires_grad_()
    distribution_focal_loss(best, distance).sum().backward()
    assert best.grad.abs().max() < 1e-6


def test_distribution_focal_loss_is_finite_at_logits_of_200() -> None:
    logits = torch.full((1, 17), -200.0)
    logits[0, 0] = 200.0
    logits.requires_grad_()
    loss = distribution_focal_loss(logits, torch.tensor([15.9]))
    assert loss.item() == pytest.approx(400)
    loss.sum().backward()
    assert logits.grad.isfinite().all()

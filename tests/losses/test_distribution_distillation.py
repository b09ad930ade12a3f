"""Distillation of box distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from distill.losses import distribution_distillation


def reference(student: Tensor, teacher: Tensor, weight: Tensor, bins: int, t: float) -> Tensor:
    """The definition from probabilities, in float64, side by side."""
    total = student.new_zeros((), dtype=torch.float64)
    for side in range(4):
        columns = slice(side * bins, (side + 1) * bins)
        p = (student[:, columns].double() / t).softmax(1)
        q = (teacher[:, columns].double() / t).softmax(1)
        total = total + ((q * (q / p).log()).mean(1) * t**2 * weight).sum() / 4
    return total


def test_the_values_by_hand() -> None:
    # Two bins at temperature 2; the top sides differ, (1/2, 1/2) against (3/4, 1/4).
    student, teacher = torch.zeros(1, 8), torch.zeros(1, 8)
    teacher[0, 2] = 2 * math.log(3)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    loss = distribution_distillation(student, teacher, torch.ones(1), bins=2, temperature=2.0)
    assert loss.item() == pytest.approx(2**2 * divergence / 2 / 4)


def test_weights_multiply_and_do_not_normalize() -> None:
    student, teacher = torch.randn(2, 3, 68)
    one = distribution_distillation(student, teacher, torch.ones(3))
    torch.testing.assert_close(
        distribution_distillation(student, teacher, torch.full((3,), 5.0)), 5 * one
    )
    twice = [x.repeat(2, 1) for x in (student, teacher)]
    torch.testing.assert_close(distribution_distillation(*twice, torch.ones(6)), 2 * one)


@pytest.mark.parametrize(("bins", "temperature"), [(17, 10.0), (5, 1.0)])
def test_value_and_gradient_are_those_of_the_definition(bins: int, temperature: float) -> None:
    student, teacher = 4 * torch.randn(2, 6, 4 * bins)
    student.requires_grad_()
    weight = torch.rand(6)
    loss = distribution_distillation(student, teacher, weight, bins=bins, temperature=temperature)
    expected = reference(student, teacher, weight, bins, temperature)
    torch.testing.assert_close(loss, expected.float())
    torch.testing.assert_close(
        *(torch.autograd.grad(x, student)[0] for x in (loss, expected)), atol=1e-6, rtol=1e-4
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    student, teacher = 2 * torch.randn(2, 2, 12).double()
    # It is float32 inside, so that the steps have to be wide.
    assert gradcheck(
        lambda x: distribution_distillation(x, teacher, torch.ones(2), bins=3, temperature=2.0),
        (student.requires_grad_(),),
        eps=2e-2,
        atol=1e-4,
        rtol=1e-3,
    )


def test_equal_logits_up_to_a_constant_give_zero() -> None:
    student = torch.randn(3, 68, requires_grad=True)
    loss = distribution_distillation(student, student.detach().clone(), torch.ones(3))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 0 and gradient.abs().max() < 1e-7
    loss = distribution_distillation(student, student.detach() + 3, torch.ones(3))
    assert loss.abs() < 1e-5


def test_no_rows_and_no_weights_give_zero_with_a_gradient() -> None:
    for rows in (0, 3):
        student = torch.randn(rows, 68, requires_grad=True)
        loss = distribution_distillation(student, torch.randn(rows, 68), torch.zeros(rows))
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == 0 and loss.shape == () and torch.equal(gradient, torch.zeros_like(student))


@pytest.mark.parametrize("scale", [200.0, 1e4])
def test_extreme_logits_are_finite(scale: float) -> None:
    student = (scale * torch.randn(3, 68).sign()).requires_grad_()
    loss = distribution_distillation(student, -student.detach(), torch.ones(3))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss > 0 and loss.isfinite() and gradient.isfinite().all()


def test_a_nan_counts_unless_the_weight_is_0() -> None:
    student, teacher = torch.randn(2, 3, 68)
    weight = torch.tensor([1.0, 0.0, 0.5])
    expected = distribution_distillation(student, teacher, weight)
    student[1, 3], teacher[1, 40] = float("nan"), float("inf")
    student.requires_grad_()
    loss = distribution_distillation(student, teacher, weight)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.equal(loss, expected)
    assert gradient.isfinite().all() and torch.equal(gradient[1], torch.zeros(68))
    teacher[2, 0] = float("nan")
    assert distribution_distillation(student, teacher, weight).isnan()


def test_teacher_and_weight_receive_no_gradient() -> None:
    student, teacher = torch.randn(2, 3, 68, requires_grad=True)
    weight = torch.rand(3, requires_grad=True)
    loss = distribution_distillation(student, teacher, weight)
    assert torch.autograd.grad(loss, [teacher, weight], allow_unused=True) == (None, None)


def test_the_order_of_the_rows_does_not_matter_and_levels_add_up() -> None:
    student, teacher, weight = torch.randn(9, 68), torch.randn(9, 68), torch.rand(9)
    whole = distribution_distillation(student, teacher, weight)
    order = torch.randperm(9)
    torch.testing.assert_close(
        distribution_distillation(student[order], teacher[order], weight[order]), whole
    )
    levels = zip(*(x.split([5, 3, 1]) for x in (student, teacher, weight)), strict=True)
    torch.testing.assert_close(sum(distribution_distillation(*x) for x in levels), whole)


def test_autocast_and_half_precision_logits_do_not_lower_the_precision() -> None:
    student, teacher = torch.randn(2, 5, 68).bfloat16()
    weight = torch.rand(5)
    expected = distribution_distillation(student.float(), teacher.float(), weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distribution_distillation(student, teacher, weight)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


def test_another_number_of_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="68 and 40 logits per location do not describe 4 sides"):
        distribution_distillation(torch.zeros(1, 68), torch.zeros(1, 40), torch.ones(1))

"""Gated imitation of box deltas."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from distill.losses import gated_box_regression


def test_the_value_by_hand() -> None:
    student = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]])
    teacher = torch.tensor([[0.0, 4.0, 3.0, 3.0], [0.5, 0.0, -0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    gate = torch.tensor([True, True, False])
    # (1 + 2 + 0 + 1) + (0.5 + 0.5), over 4 foreground proposals.
    assert gated_box_regression(student, teacher, gate, torch.tensor(4)) == 1.25


def test_equal_deltas_a_closed_gate_and_no_proposals_give_zero_with_a_gradient() -> None:
    deltas = torch.randn(3, 4)
    for count, teacher, gate in (
        (3, deltas.clone(), torch.ones(3)),
        (3, torch.randn(3, 4), torch.zeros(3)),
        (0, torch.zeros(0, 4), torch.zeros(0)),
    ):
        student = deltas[:count].clone().requires_grad_()
        loss = gated_box_regression(student, teacher, gate, torch.tensor(0))
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == 0 and torch.equal(gradient, torch.zeros_like(student))


def test_the_gradient_is_that_of_finite_differences() -> None:
    # At a distance from the kink, where the loss is linear and central differences are exact.
    teacher = torch.randn(5, 4)
    student = teacher + torch.randn(5, 4).sign() * (0.5 + torch.rand(5, 4))
    gate, count = torch.tensor([1.0, 0.0, 1.0, 0.5, 1.0]), torch.tensor(5)
    assert gradcheck(
        lambda x: gated_box_regression(x, teacher, gate, count),
        (student.double().requires_grad_(),),
        eps=0.1,
        atol=1e-4,
        rtol=1e-3,
    )


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_extreme_deltas_are_finite(value: float) -> None:
    student = torch.full((2, 4), value, requires_grad=True)
    loss = gated_box_regression(student, -student.detach(), torch.ones(2), torch.tensor(2))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 8e4 and gradient.isfinite().all()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_deltas_that_overflowed_do_not_pass_a_closed_gate(value: float) -> None:
    student = torch.zeros(2, 4, requires_grad=True)
    teacher = torch.tensor([[1.0] * 4, [value] * 4])
    loss = gated_box_regression(student, teacher, torch.tensor([True, False]), torch.tensor(1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 4
    assert torch.equal(gradient, torch.tensor([[-1.0] * 4, [0.0] * 4]))


def test_the_teacher_receives_no_gradient() -> None:
    student, teacher = torch.randn(2, 3, 4, requires_grad=True)
    loss = gated_box_regression(student, teacher, torch.ones(3), torch.tensor(3))
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_the_loss_is_float32_under_autocast() -> None:
    student, teacher = torch.randn(2, 6, 4).bfloat16()
    gate, count = torch.ones(6, dtype=torch.bool), torch.tensor(6)
    expected = gated_box_regression(student.float(), teacher.float(), gate, count)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = gated_box_regression(student, teacher, gate, count)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)

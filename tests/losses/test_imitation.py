"""Masked squared error of feature maps."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from distill.losses import masked_imitation


def test_the_value_by_hand() -> None:
    student = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])  # (1, 2, 1, 2)
    teacher = torch.tensor([[[[0.0, 4.0]], [[1.0, 0.0]]]])
    mask = torch.tensor([[[[1.0, 0.5]]]])
    # Squares by cell: 1 + 4 and 4 + 0; (1 * 5 + 0.5 * 4) / (2 * 2 channels * 1.5).
    assert masked_imitation(student, teacher, mask).item() == pytest.approx(7 / 6)


def test_the_normalizer_is_at_least_1() -> None:
    student, teacher = torch.full((1, 1, 1, 1), 3.0), torch.zeros(1, 1, 1, 1)
    # 0.25 * 9 / (2 * max(1, 0.25))
    assert masked_imitation(student, teacher, torch.full((1, 1, 1, 1), 0.25)) == 1.125


def test_equal_maps_and_an_empty_mask_give_zero_with_a_gradient() -> None:
    student = torch.randn(2, 3, 4, 5, requires_grad=True)
    for teacher, mask in (
        (student.detach().clone(), torch.rand(2, 1, 4, 5)),
        (torch.randn(2, 3, 4, 5), torch.zeros(2, 1, 4, 5)),
    ):
        loss = masked_imitation(student, teacher, mask)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == 0 and torch.equal(gradient, torch.zeros_like(student))


def test_the_gradient_is_that_of_finite_differences() -> None:
    student = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher, mask = torch.randn(2, 3, 3, 4), torch.rand(2, 1, 3, 4)
    # It is float32 inside, but a quadratic's central differences are exact with wide steps too.
    assert gradcheck(
        lambda x: masked_imitation(x, teacher, mask),
        (student,),
        eps=0.1,
        atol=1e-3,
        rtol=1e-3,
    )


def test_teacher_and_mask_receive_no_gradient() -> None:
    student, teacher = torch.randn(2, 1, 3, 2, 2, requires_grad=True)
    mask = torch.rand(1, 1, 2, 2, requires_grad=True)
    loss = masked_imitation(student, teacher, mask)
    assert torch.autograd.grad(loss, [teacher, mask], allow_unused=True) == (None, None)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e4])
def test_constant_maps_are_finite(value: float) -> None:
    student = torch.full((1, 2, 3, 3), value, requires_grad=True)
    loss = masked_imitation(student, torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 3, 3))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(value**2 / 2)
    assert gradient.isfinite().all()


def test_autocast_and_half_precision_maps_do_not_lower_the_precision() -> None:
    student, teacher = torch.randn(2, 2, 3, 8, 8).bfloat16()
    mask = torch.rand(2, 1, 8, 8)
    expected = masked_imitation(student.float(), teacher.float(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = masked_imitation(student, teacher, mask)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


def test_a_nan_is_not_hidden() -> None:
    student = torch.zeros(1, 1, 2, 2)
    student[0, 0, 0, 0] = float("nan")
    assert masked_imitation(student, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).isnan()

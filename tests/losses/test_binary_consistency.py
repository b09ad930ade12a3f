"""Binary classification distillation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from distill.losses import binary_consistency, binary_consistency_sums, largest_discrepancy

EXPONENTS = (1.0, 2.0, 0.5, 0.0)
LN2 = math.log(2)


def reference(
    student: Tensor, teacher: Tensor, valid: Tensor, positives: float, exponent: float = 1.0
) -> Tensor:
    """The definition from probabilities, in float64 and without any care for extremes."""
    p, q = student.double().sigmoid(), teacher.double().sigmoid()
    cross = -q * p.log() - (1 - q) * (1 - p).log()
    return ((q - p).abs() ** exponent * cross * valid[:, None]).sum() / max(1, positives)


def logits_and_validity(rows: int = 6, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher = 2 * torch.randn(2, rows, classes)
    valid = torch.arange(rows) % 3 != 1
    return student, teacher, valid


def test_the_values_by_hand() -> None:
    # p = 1/2, q = 3/4 twice: BCE = ln 2, the weight 1/4; the third row is left out.
    student, teacher = torch.zeros(3, 1), torch.full((3, 1), math.log(3))
    valid = torch.tensor([True, True, False])
    for positives in (4, 4.0, torch.tensor(4), torch.tensor(4.0)):
        loss = binary_consistency(student, teacher, valid, positives)
        assert loss.item() == pytest.approx(2 * 0.25 * LN2 / 4) and loss.dtype == torch.float32
    loss = binary_consistency(student, teacher, valid, 4, weight_exponent=2.0)
    assert loss.item() == pytest.approx(2 * 0.25**2 * LN2 / 4)


def test_the_gradient_by_hand() -> None:
    # d/ds of (q - p) * BCE is -p (1 - p) * BCE + (q - p) * (p - q).
    student = torch.zeros(1, 1, requires_grad=True)
    loss = binary_consistency(student, torch.full((1, 1), math.log(3)), torch.ones(1), 1)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.item() == pytest.approx(-0.25 * LN2 - 0.25**2)


def test_fewer_than_one_positive_counts_as_one() -> None:
    student, teacher, valid = logits_and_validity()
    one = binary_consistency(student, teacher, valid, 1)
    assert binary_consistency(student, teacher, valid, torch.tensor(0)) == one
    assert binary_consistency(student, teacher, valid, 0.5) == one


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_value_and_gradient_are_those_of_the_definition(exponent: float) -> None:
    student, teacher, valid = logits_and_validity()
    student.requires_grad_()
    loss = binary_consistency(student, teacher, valid, 3, weight_exponent=exponent)
    expected = reference(student, teacher, valid, 3, exponent)
    torch.testing.assert_close(loss, expected.float())
    torch.testing.assert_close(
        *(torch.autograd.grad(3 * x, student)[0] for x in (loss, expected)), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("exponent", EXPONENTS[:2])
def test_the_gradient_is_that_of_finite_differences(exponent: float) -> None:
    student, teacher, valid = logits_and_validity(3, 2)
    # It is float32 inside, so that the steps have to be wide.
    assert gradcheck(
        lambda x: binary_consistency(x, teacher, valid, 2, weight_exponent=exponent),
        (student.double().requires_grad_(),),
        eps=2e-2,
        atol=1e-4,
        rtol=1e-3,
    )


@pytest.mark.parametrize("exponent", EXPONENTS[:3])
def test_value_and_gradient_vanish_where_student_equals_teacher(exponent: float) -> None:
    student, _, valid = logits_and_validity()
    student.requires_grad_()
    teacher = student.detach().clone()
    loss = binary_consistency(student, teacher, valid, 1, weight_exponent=exponent)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 0 and torch.equal(gradient, torch.zeros_like(student))


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_extreme_logits_are_finite(exponent: float) -> None:
    values = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0])
    student = values[:, None].repeat(1, 5).requires_grad_()
    loss = binary_consistency(
        student, values.expand(5, 5), torch.ones(5), 1, weight_exponent=exponent
    )
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite() and gradient.isfinite().all()


def test_opposite_extreme_logits_by_hand() -> None:
    student = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = binary_consistency(student, torch.tensor([[200.0, -200.0]]), torch.ones(1), 1)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 400 and gradient.tolist() == [[-1.0, 1.0]]


def test_no_rows_and_no_valid_rows_give_zero_with_a_gradient() -> None:
    for rows in (0, 5):
        student, teacher, valid = logits_and_validity(rows)
        student.requires_grad_()
        loss = binary_consistency(student, teacher, torch.zeros_like(valid), torch.tensor(0))
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == 0 and loss.shape == () and torch.equal(gradient, torch.zeros_like(student))


def test_a_nan_counts_in_valid_rows_alone() -> None:
    student, teacher, valid = logits_and_validity()
    expected = binary_consistency(student, teacher, valid, 1)
    student[1], teacher[4, 0] = float("nan"), float("nan")
    student.requires_grad_()
    loss = binary_consistency(student, teacher, valid, 1)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient[[1, 4]], torch.zeros(2, 4)) and gradient.isfinite().all()
    teacher[0, 0] = float("nan")
    assert binary_consistency(student, teacher, valid, 1).isnan()


def test_the_validity_may_be_numbers() -> None:
    student, teacher, valid = logits_and_validity()
    assert torch.equal(
        binary_consistency(student, teacher, valid, 1),
        binary_consistency(student, teacher, valid.float(), 1),
    )


def test_the_teacher_receives_no_gradient() -> None:
    student, teacher, valid = logits_and_validity()
    student.requires_grad_(), teacher.requires_grad_()
    loss = binary_consistency(student, teacher, valid, 1)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_the_order_of_the_rows_does_not_matter() -> None:
    student, teacher, valid = logits_and_validity()
    order = torch.randperm(6)
    torch.testing.assert_close(
        binary_consistency(student, teacher, valid, 2),
        binary_consistency(student[order], teacher[order], valid[order], 2),
    )


def test_the_sums_of_levels_are_the_whole() -> None:
    student, teacher, valid = logits_and_validity(9)
    student.requires_grad_()
    levels = zip(*(x.split([5, 3, 1]) for x in (student, teacher, valid)), strict=True)
    by_level = sum(binary_consistency_sums(*x)[0] for x in levels) / 4
    whole = binary_consistency(student, teacher, valid, 4)
    torch.testing.assert_close(by_level, whole)
    torch.testing.assert_close(*(torch.autograd.grad(x, student)[0] for x in (by_level, whole)))


def test_rows_that_are_computed_in_parts_are_the_whole() -> None:
    # More than 2^20 logits.
    student, teacher, valid = logits_and_validity(2**18 + 5)
    student.requires_grad_()
    whole, discrepancy = binary_consistency_sums(student, teacher, valid)
    parts = zip(*(x.split(2**17) for x in (student, teacher, valid)), strict=True)
    by_part = sum(binary_consistency_sums(*x)[0] for x in parts)
    torch.testing.assert_close(whole, by_part)
    assert torch.equal(*(torch.autograd.grad(x, student)[0] for x in (whole, by_part)))
    difference = student.detach().sigmoid() - teacher.sigmoid()
    for found in (discrepancy, largest_discrepancy(student, teacher)):
        assert torch.equal(found, difference.abs().amax(1))


def test_autocast_and_half_precision_logits_do_not_lower_the_precision() -> None:
    student, teacher, valid = logits_and_validity(40)
    student, teacher = student.bfloat16().requires_grad_(), teacher.bfloat16()
    expected = binary_consistency(student.float(), teacher.float(), valid, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = binary_consistency(student, teacher, valid, torch.tensor(2.0, dtype=torch.bfloat16))
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
    gradients = [torch.autograd.grad(x, student)[0] for x in (loss, expected)]
    assert gradients[0].dtype == torch.bfloat16 and torch.equal(*gradients)


def test_the_largest_discrepancy_by_hand() -> None:
    # Probabilities 1/2, 1/2 against 3/4, 1/10; invalid rows are measured too.
    student = torch.zeros(1, 2, requires_grad=True)
    teacher = torch.tensor([[math.log(3), -math.log(9)]])
    discrepancy = largest_discrepancy(student, teacher)
    assert discrepancy.tolist() == pytest.approx([0.4]) and not discrepancy.requires_grad
    assert largest_discrepancy(student[:0], teacher[:0]).shape == (0,)


def test_the_sums_bring_the_largest_discrepancy_with_them() -> None:
    student, teacher, valid = logits_and_validity()
    _, discrepancy = binary_consistency_sums(student.requires_grad_(), teacher, valid)
    assert torch.equal(discrepancy, largest_discrepancy(student, teacher))
    assert not discrepancy.requires_grad

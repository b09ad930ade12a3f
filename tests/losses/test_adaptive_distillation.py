"""Adaptive distillation of class logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from distill.losses import adaptive_distillation, adaptive_distillation_sums

FORMS = ("code", "paper")
# gamma, beta, theta: the defaults; others; the edges.
CONSTANTS = ((2.0, 1.0, 1.8), (1.5, 0.5, 1.0), (0.5, 0.0, 2.0), (0.0, 1.0, 0.0))
LN2 = math.log(2)


def reference(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor,
    gamma: float = 2.0,
    beta: float = 1.0,
    theta: float = 1.8,
    form: str = "code",
) -> Tensor:
    """The definition from probabilities, in float64 and without any care for extremes."""
    p, q = student.double().sigmoid(), teacher.double().sigmoid()
    cross = -q * p.log() - (1 - q) * (1 - p).log()
    entropy = -q * q.log() - (1 - q) * (1 - q).log()
    divergence = cross - entropy
    weight = (1 - torch.exp(-(divergence + beta * entropy))) ** gamma
    terms = weight * (0.5 * cross if form == "code" else divergence)
    return (terms * valid[:, None]).sum() / (q**theta).sum().clamp(min=1)


def logits_and_validity(rows: int = 6, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher = 2 * torch.randn(2, rows, classes)
    valid = torch.arange(rows) % 3 != 1
    return student, teacher, valid


def test_the_values_by_hand() -> None:
    # p = 1/2, q = 3/4: BCE = ln 2, so that the weight is (1 - 1/2)^2, over 4 * 0.75^1.8.
    student, teacher = torch.zeros(2, 2), torch.full((2, 2), math.log(3))
    valid = torch.tensor([True, False])
    normalizer = 4 * 0.75**1.8
    loss = adaptive_distillation(student, teacher, valid)
    assert loss.item() == pytest.approx(2 * 0.25 * 0.5 * LN2 / normalizer)
    divergence = LN2 - (0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    loss = adaptive_distillation(student, teacher, valid, form="paper")
    assert loss.item() == pytest.approx(2 * 0.25 * divergence / normalizer)


def test_the_weight_without_the_entropy_by_hand() -> None:
    student, teacher = torch.zeros(1, 1), torch.full((1, 1), math.log(3))
    divergence = LN2 - (0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    loss = adaptive_distillation(student, teacher, torch.ones(1), gamma=1.0, beta=0.0)
    assert loss.item() == pytest.approx((1 - math.exp(-divergence)) * 0.5 * LN2)


def test_the_normalizer_is_at_least_1() -> None:
    # p = q = 1/2, whose power 0.287 would enlarge the loss.
    loss = adaptive_distillation(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1))
    assert loss.item() == pytest.approx(0.25 * 0.5 * LN2)
    _, normalizer = adaptive_distillation_sums(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1))
    assert normalizer.item() == pytest.approx(0.5**1.8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("constants", CONSTANTS)
def test_value_and_gradient_are_those_of_the_definition(
    form: str, constants: tuple[float, float, float]
) -> None:
    student, teacher, valid = logits_and_validity()
    student.requires_grad_()
    gamma, beta, theta = constants
    loss = adaptive_distillation(
        student, teacher, valid, gamma=gamma, beta=beta, theta=theta, form=form
    )
    expected = reference(student, teacher, valid, *constants, form)
    torch.testing.assert_close(loss, expected.float())
    torch.testing.assert_close(
        *(torch.autograd.grad(3 * x, student)[0] for x in (loss, expected)), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_finite_differences(form: str) -> None:
    student, teacher, valid = logits_and_validity(3, 2)
    # It is float32 inside, so that the steps have to be wide.
    assert gradcheck(
        lambda x: adaptive_distillation(x, teacher, valid, form=form),
        (student.double().requires_grad_(),),
        eps=2e-2,
        atol=1e-4,
        rtol=1e-3,
    )


def test_paper_and_its_gradient_vanish_where_student_equals_teacher() -> None:
    student, _, valid = logits_and_validity()
    student.requires_grad_()
    loss = adaptive_distillation(student, student.detach().clone(), valid, form="paper")
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 0 and torch.equal(gradient, torch.zeros_like(student))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("constants", CONSTANTS)
def test_extreme_logits_are_finite(form: str, constants: tuple[float, float, float]) -> None:
    values = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0])
    student = values[:, None].repeat(1, 5).requires_grad_()
    gamma, beta, theta = constants
    loss = adaptive_distillation(
        student,
        values.expand(5, 5),
        torch.ones(5),
        gamma=gamma,
        beta=beta,
        theta=theta,
        form=form,
    )
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite() and gradient.isfinite().all()


def test_opposite_extreme_logits_by_hand() -> None:
    # q = 1, p = exp(-200): BCE = KL = 200, the weight is 1, the slope p - q = -1.
    student = torch.tensor([[-200.0]], requires_grad=True)
    loss = adaptive_distillation(student, torch.tensor([[200.0]]), torch.ones(1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 100 and gradient == -0.5


@pytest.mark.parametrize("form", FORMS)
def test_no_rows_and_no_valid_rows_give_zero_with_a_gradient(form: str) -> None:
    for rows in (0, 5):
        student, teacher, valid = logits_and_validity(rows)
        student.requires_grad_()
        loss = adaptive_distillation(student, teacher, torch.zeros_like(valid), form=form)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == 0 and loss.shape == () and torch.equal(gradient, torch.zeros_like(student))


def test_a_nan_of_the_student_in_an_invalid_row_is_left_out() -> None:
    student, teacher, valid = logits_and_validity()
    expected = adaptive_distillation(student, teacher, valid)
    student[1] = float("nan")
    student.requires_grad_()
    loss = adaptive_distillation(student, teacher, valid)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.equal(loss, expected)
    assert gradient.isfinite().all() and torch.equal(gradient[1], torch.zeros(4))


@pytest.mark.parametrize("row", [0, 1])
def test_a_nan_of_the_teacher_is_not_hidden(row: int) -> None:
    student, teacher, valid = logits_and_validity()
    teacher[row, 2] = float("nan")
    assert adaptive_distillation(student, teacher, valid).isnan()


def test_the_validity_may_be_numbers() -> None:
    student, teacher, valid = logits_and_validity()
    assert torch.equal(
        adaptive_distillation(student, teacher, valid),
        adaptive_distillation(student, teacher, valid.float()),
    )


def test_the_teacher_and_the_normalizer_receive_no_gradient() -> None:
    student, teacher, valid = logits_and_validity()
    student.requires_grad_(), teacher.requires_grad_()
    numerator, normalizer = adaptive_distillation_sums(student, teacher, valid)
    assert not normalizer.requires_grad
    assert torch.autograd.grad(numerator, teacher, allow_unused=True) == (None,)


def test_constant_logits_of_the_student_give_a_plain_value() -> None:
    student, teacher, valid = logits_and_validity()
    assert not adaptive_distillation(student, teacher, valid).requires_grad


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_the_rows_does_not_matter(form: str) -> None:
    student, teacher, valid = logits_and_validity()
    order = torch.randperm(6)
    torch.testing.assert_close(
        adaptive_distillation(student, teacher, valid, form=form),
        adaptive_distillation(student[order], teacher[order], valid[order], form=form),
    )


def test_the_sums_of_levels_are_the_whole() -> None:
    student, teacher, valid = logits_and_validity(9)
    student.requires_grad_()
    levels = zip(*(x.split([5, 3, 1]) for x in (student, teacher, valid)), strict=True)
    numerator, normalizer = (
        torch.stack(x).sum()
        for x in zip(*(adaptive_distillation_sums(*x) for x in levels), strict=True)
    )
    by_level = numerator / normalizer.clamp(min=1)
    whole = adaptive_distillation(student, teacher, valid)
    torch.testing.assert_close(by_level, whole)
    torch.testing.assert_close(*(torch.autograd.grad(x, student)[0] for x in (by_level, whole)))


def test_rows_that_are_computed_in_parts_are_the_whole() -> None:
    # More than 2^20 logits.
    student, teacher, valid = logits_and_validity(2**18 + 5)
    student.requires_grad_()
    loss = adaptive_distillation(student, teacher, valid)
    expected = reference(student, teacher, valid)
    torch.testing.assert_close(loss, expected.float())
    gradient, other = (torch.autograd.grad(x, student)[0] for x in (loss, expected))
    torch.testing.assert_close(gradient, other, atol=1e-10, rtol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_and_half_precision_logits_do_not_lower_the_precision(form: str) -> None:
    student, teacher, valid = logits_and_validity(40)
    student, teacher = student.bfloat16().requires_grad_(), teacher.bfloat16()
    expected = adaptive_distillation(student.float(), teacher.float(), valid, form=form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = adaptive_distillation(student, teacher, valid, form=form)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
    gradients = [torch.autograd.grad(x, student)[0] for x in (loss, expected)]
    assert gradients[0].dtype == torch.bfloat16 and torch.equal(*gradients)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match='form is "kl"; it must be "code" or "paper"'):
        adaptive_distillation(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1), form="kl")

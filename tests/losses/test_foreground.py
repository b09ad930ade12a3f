"""Imitation of softmax scores."""

from __future__ import annotations

import math

import pytest
import torch

from distill.losses import foreground_classification

FORMS = ("bce", "kl")


def reference(student: torch.Tensor, teacher: torch.Tensor, form: str) -> torch.Tensor:
    """The definition, in float64 and without any care for extremes."""
    p, q = student.double().softmax(1), teacher.double().softmax(1)
    if form == "bce":
        return (-q * p.log() - (1 - q) * (1 - p).log()).mean()
    return (q * (q / p).log()).mean()


def test_the_values_by_hand() -> None:
    # Student (1/2, 1/4, 1/4), teacher (1/4, 1/4, 1/2).
    student = torch.tensor([[math.log(2), 0.0, 0.0]])
    teacher = torch.tensor([[0.0, 0.0, math.log(2)]])
    first = 0.25 * math.log(2) + 0.75 * math.log(2)
    second = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    third = 0.5 * math.log(4) + 0.5 * math.log(4 / 3)
    assert foreground_classification(student, teacher).item() == pytest.approx(
        (first + second + third) / 3
    )
    divergence = 0.25 * math.log(0.5) + 0.5 * math.log(2)
    assert foreground_classification(student, teacher, form="kl").item() == pytest.approx(
        divergence / 3
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_value_is_the_definition(form: str) -> None:
    student, teacher = 3 * torch.randn(2, 7, 5)
    torch.testing.assert_close(
        foreground_classification(student, teacher, form=form),
        reference(student, teacher, form).float(),
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_finite_differences(form: str) -> None:
    student, teacher = torch.randn(2, 4, 3)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(
        foreground_classification(student, teacher, form=form), student
    )
    # The loss casts to float32, too coarse for small steps; its definition, to which the test
    # above ties it, is differenced in float64.
    eps, numeric = 1e-6, torch.zeros_like(gradient)
    for row in range(4):
        for column in range(3):
            shift = torch.zeros(4, 3, dtype=torch.float64)
            shift[row, column] = eps
            base = student.detach().double()
            rise = reference(base + shift, teacher, form) - reference(base - shift, teacher, form)
            numeric[row, column] = rise / (2 * eps)
    torch.testing.assert_close(gradient, numeric, atol=1e-6, rtol=1e-4)


def test_kl_and_its_gradient_vanish_where_student_equals_teacher() -> None:
    student = torch.randn(5, 4, requires_grad=True)
    loss = foreground_classification(student, student.detach().clone(), form="kl")
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss == 0 and gradient.abs().max() < 1e-7


def test_bce_is_least_where_student_equals_teacher() -> None:
    student = torch.randn(5, 4, requires_grad=True)
    loss = foreground_classification(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss > 0 and gradient.abs().max() < 1e-7


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("student_peak", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("teacher_peak", [-1e4, 0.0, 1e4])
def test_extreme_logits_give_finite_values_and_gradients(
    form: str, student_peak: float, teacher_peak: float
) -> None:
    student = torch.tensor([[student_peak, 0.0, 0.0], [0.0, student_peak, 1.0]])
    teacher = torch.tensor([[0.0, 0.0, teacher_peak], [0.0, teacher_peak, 1.0]])
    student.requires_grad_()
    loss = foreground_classification(student, teacher, form=form)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite() and gradient.isfinite().all()
    assert loss >= 0


def test_a_certain_and_wrong_student_pays_in_proportion_to_its_logit() -> None:
    student = torch.tensor([[1e4, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-1e4, 0.0]])
    loss = foreground_classification(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    # Both columns: -log(e^-1e4) each, of two classes.
    assert loss == 1e4
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize("form", FORMS)
def test_without_proposals_the_loss_is_zero_and_touches_the_graph(form: str) -> None:
    scores = torch.zeros(0, 4, requires_grad=True)
    loss = foreground_classification(scores, torch.zeros(0, 4), form=form)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss == 0 and gradient.shape == (0, 4)


def test_the_gate_selects_proposals_and_the_count_divides() -> None:
    student, teacher = torch.randn(2, 6, 4)
    gate = torch.tensor([True, False, True, False, False, False])
    loss = foreground_classification(student, teacher, gate=gate, num_foreground=torch.tensor(3))
    alone = foreground_classification(student[gate], teacher[gate])
    torch.testing.assert_close(loss, alone * 2 / 3)
    # Without foreground: zero, not 0 / 0.
    nothing = foreground_classification(
        student, teacher, gate=torch.zeros(6), num_foreground=torch.tensor(0)
    )
    assert nothing == 0


def test_the_teacher_receives_no_gradient() -> None:
    student, teacher = torch.randn(2, 3, 4, requires_grad=True)
    loss = foreground_classification(student, teacher)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_float32_under_autocast(form: str) -> None:
    student, teacher = torch.randn(2, 6, 4).bfloat16()
    expected = foreground_classification(student.float(), teacher.float(), form=form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = foreground_classification(student, teacher, form=form)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match='form is "mse"; it must be "bce" or "kl"'):
        foreground_classification(torch.zeros(1, 2), torch.zeros(1, 2), form="mse")

"""Localization distillation by overlap."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from distill.losses import aligned_overlap, iou_localization, largest_discrepancy

TYPES = ("giou", "iou")


def random_inputs(rows: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Student's and teacher's boxes and logits, and which rows are valid."""
    corner, size = 10 * torch.rand(2, 2, rows, 2)
    boxes = torch.cat([corner, corner + size + 5], -1)
    return *boxes, *torch.randn(2, rows, 3), torch.arange(rows) % 3 != 1


def test_the_values_by_hand() -> None:
    # IoU 4/20 and GIoU 4/20 - 4/24; discrepancy 1/4, by the first of two classes.
    student_boxes = torch.tensor([[0.0, 0, 4, 4]]).repeat(2, 1)
    teacher_boxes = torch.tensor([[2.0, 2, 6, 4]]).repeat(2, 1)
    student_logits, teacher_logits = torch.zeros(2, 2), torch.tensor([[math.log(3), 0.0]] * 2)
    inputs = (student_boxes, teacher_boxes, student_logits, teacher_logits)
    valid = torch.tensor([True, False])
    loss = iou_localization(*inputs, valid, 2)
    assert loss.item() == pytest.approx(0.25 * (1 - 0.2 + 1 / 6) / 2)
    loss = iou_localization(*inputs, valid, torch.tensor(2), iou_type="iou")
    assert loss.item() == pytest.approx(0.25 * 0.8 / 2)
    loss = iou_localization(*inputs, valid.float(), 0.3, iou_type="iou", weight_exponent=2.0)
    assert loss.item() == pytest.approx(0.25**2 * 0.8)


@pytest.mark.parametrize("iou_type", TYPES)
def test_the_gradient_is_that_of_finite_differences(iou_type: str) -> None:
    student, *rest, valid = random_inputs(3)
    assert gradcheck(
        lambda x: iou_localization(x, *rest, valid, 1, iou_type=iou_type),
        (student.double().requires_grad_(),),
        eps=1e-2,
        atol=1e-4,
        rtol=1e-2,
    )


@pytest.mark.parametrize("iou_type", TYPES)
def test_equal_boxes_and_equal_logits_give_zero(iou_type: str) -> None:
    student, teacher, logits, others, valid = random_inputs()
    loss = iou_localization(student, student.clone(), logits, others, valid, 1, iou_type=iou_type)
    assert loss == 0
    assert iou_localization(student, teacher, logits, logits, valid, 1, iou_type=iou_type) == 0


def test_a_known_discrepancy_replaces_the_logits() -> None:
    student, teacher, *logits, valid = random_inputs()
    discrepancy = largest_discrepancy(*logits)
    assert torch.equal(
        iou_localization(student, teacher, None, None, valid, 2, discrepancy=discrepancy),
        iou_localization(student, teacher, *logits, valid, 2),
    )


def test_an_exponent_of_0_weighs_all_valid_rows_alike() -> None:
    student, teacher, *logits, valid = random_inputs()
    overlap = aligned_overlap(student, teacher)[valid]
    loss = iou_localization(student, teacher, *logits, valid, 2, weight_exponent=0.0)
    torch.testing.assert_close(loss, (1 - overlap).sum() / 2)


def test_only_the_students_boxes_receive_a_gradient() -> None:
    inputs = [x.requires_grad_() for x in random_inputs()[:4]]
    loss = iou_localization(*inputs, torch.ones(6), 1)
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    assert gradients[0] is not None and gradients[1:] == (None, None, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_invalid_rows_are_left_out(value: float) -> None:
    student, teacher, *logits, valid = random_inputs()
    expected = iou_localization(student, teacher, *logits, valid, 1)
    student[1], teacher[4], logits[0][4] = value, value, value
    student.requires_grad_()
    loss = iou_localization(student, teacher, *logits, valid, 1)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.equal(loss, expected)
    assert gradient.isfinite().all() and torch.equal(gradient[[1, 4]], torch.zeros(2, 4))


@pytest.mark.parametrize("place", range(4))
def test_a_nan_in_a_valid_row_is_not_hidden(place: int) -> None:
    *inputs, valid = random_inputs()
    inputs[place][0, 0] = float("nan")
    assert iou_localization(*inputs, valid, 1).isnan()


def test_no_rows_and_no_valid_rows_give_zero_with_a_gradient() -> None:
    for rows in (0, 5):
        student, *rest, valid = random_inputs(rows)
        student.requires_grad_()
        loss = iou_localization(student, *rest, torch.zeros_like(valid), 0)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss == 0 and loss.shape == () and torch.equal(gradient, torch.zeros_like(student))


def test_extreme_logits_and_boxes_without_area_are_finite() -> None:
    student = torch.tensor([[3.0, 3, 3, 3], [0, 0, 0, 5], [9, 9, 2, 2]], requires_grad=True)
    logits = torch.full((3, 1), 200.0)
    for teacher in (student.detach().clone(), torch.tensor([[0.0, 0, 9, 9]]).expand(3, 4)):
        loss = iou_localization(student, teacher, -logits, logits, torch.ones(3), 1)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.isfinite() and gradient.isfinite().all()


def test_the_order_of_the_rows_does_not_matter_and_levels_add_up() -> None:
    inputs = random_inputs(9)
    whole = iou_localization(*inputs, 4)
    order = torch.randperm(9)
    torch.testing.assert_close(iou_localization(*(x[order] for x in inputs), 4), whole)
    levels = zip(*(x.split([5, 3, 1]) for x in inputs), strict=True)
    torch.testing.assert_close(sum(iou_localization(*x, 4) for x in levels), whole)


def test_autocast_and_half_precision_do_not_lower_the_precision() -> None:
    *inputs, valid = random_inputs()
    inputs = [x.bfloat16() for x in inputs]
    expected = iou_localization(*(x.float() for x in inputs), valid, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = iou_localization(*inputs, valid, torch.tensor(2.0, dtype=torch.bfloat16))
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)

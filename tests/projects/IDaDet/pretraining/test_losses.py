from __future__ import annotations

import math

import pytest
import torch
from pretraining.losses import distribution_loss

# Class scores of 1/4 and 3/4.
_SURE = [0.0, math.log(3)]
_ENTROPY = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        ([[0.0, 0.0]], math.log(2)),
        ([_SURE], _ENTROPY),
        ([_SURE[::-1]], -(0.75 * math.log(0.25) + 0.25 * math.log(0.75))),
        ([[0.0, 0.0], _SURE], (math.log(2) + _ENTROPY) / 2),
    ],
)
def test_by_hand(student, expected):
    teacher = torch.tensor([_SURE] * len(student))
    assert distribution_loss(torch.tensor(student), teacher).item() == pytest.approx(expected)


def test_the_gradient_is_the_difference_of_the_scores_and_the_teacher_gets_none():
    student = torch.zeros(1, 2, requires_grad=True)
    teacher = torch.tensor([_SURE], requires_grad=True)
    distribution_loss(student, teacher).backward()
    assert student.grad.flatten().tolist() == pytest.approx([0.25, -0.25])
    assert teacher.grad is None


def test_large_logits_of_low_precision_stay_finite():
    student = torch.tensor([[800.0, -800.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = distribution_loss(student, torch.tensor([[-800.0, 800.0]]))
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(1600)
    assert student.grad.isfinite().all()

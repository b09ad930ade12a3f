"""Imitation up to scale and offset: by hand, against correlations, constant channels, sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.losses import pearson_imitation


def maps(*size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*size), torch.randn(*size)


def channel(*values: float) -> Tensor:
    """One channel of one image, in a row."""
    return torch.tensor(values)[None, None, None]


def test_the_value_by_hand() -> None:
    # Centered (-1, 0, 1) and (-1, 2, -1), deviations 1 and sqrt(3): standardized (-1, 0, 1) and
    # (-1, 2, -1) / sqrt(3). The squared differences add up to 2 + 2, as both are orthogonal.
    loss = pearson_imitation(channel(1, 2, 3), channel(4, 7, 4))
    assert loss.item() == pytest.approx(4 / 3 / 2, rel=1e-5)
    # Centered (-1, 1, 0): the correlation with (-1, 0, 1) is 1/2.
    loss = pearson_imitation(channel(1, 2, 3), channel(0, 2, 1))
    assert loss.item() == pytest.approx((1 - 0.5) * 2 / 3, rel=1e-5)


def test_it_is_one_less_the_correlation_of_each_channel_over_the_whole_batch() -> None:
    student, teacher = maps(3, 5, 6, 7)
    teacher = teacher + 0.7 * student
    places = 3 * 6 * 7
    correlations = [
        torch.corrcoef(torch.stack([student[:, c].flatten(), teacher[:, c].flatten()]))[0, 1]
        for c in range(5)
    ]
    expected = (1 - torch.stack(correlations)).mean() * (places - 1) / places
    torch.testing.assert_close(pearson_imitation(student, teacher), expected)


def test_scale_and_offset_of_a_channel_do_not_matter_but_its_sign_does() -> None:
    teacher = torch.randn(2, 4, 5, 6)
    scale, offset = torch.rand(4, 1, 1) + 0.1, torch.randn(4, 1, 1)
    loss = pearson_imitation(scale * teacher + offset, teacher)
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert pearson_imitation(-scale * teacher, teacher).item() == pytest.approx(
        2 * 59 / 60, rel=1e-4
    )


def test_images_of_a_batch_are_standardized_together() -> None:
    student, teacher = maps(2, 3, 4, 5)
    together = pearson_imitation(student, teacher)
    apart = [pearson_imitation(x[None], y[None]) for x, y in zip(student, teacher, strict=True)]
    assert (together - torch.stack(apart).mean()).abs() > 1e-4


def test_the_gradient_passes_through_the_students_mean_and_deviation() -> None:
    student, teacher = maps(2, 3, 4, 5)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(pearson_imitation(student, teacher), student)
    # A change of offset or scale changes nothing, so the gradient has no part along these.
    by_channel = (0, 2, 3)
    torch.testing.assert_close(gradient.sum(by_channel), torch.zeros(3), atol=1e-6, rtol=0)
    along = (gradient * student.detach()).sum(by_channel)
    torch.testing.assert_close(along, torch.zeros(3), atol=1e-6, rtol=0)
    assert gradient.abs().max() > 1e-3


def test_the_gradient_is_that_of_finite_differences() -> None:
    student, teacher = maps(2, 2, 3, 3)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(pearson_imitation(student, teacher), student)
    step = 1e-2
    for place in [(0, 0, 0, 0), (1, 0, 2, 1), (0, 1, 1, 2)]:
        moved = [student.detach().clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        more, less = (pearson_imitation(x, teacher) for x in moved)
        assert gradient[place].item() == pytest.approx((more - less).item() / 2 / step, abs=2e-4)


def test_the_teacher_is_a_constant() -> None:
    student, teacher = (x.requires_grad_() for x in maps(1, 2, 3, 4))
    pearson_imitation(student, teacher).backward()
    assert teacher.grad is None and student.grad.any()


@pytest.mark.parametrize("size", [(3, 4), (12, 9)])
def test_maps_of_another_size_are_resized_bilinearly_to_the_teachers(size: tuple[int, int]) -> None:
    student, teacher = torch.randn(2, 3, *size), torch.randn(2, 3, 6, 8)
    resized = F.interpolate(student, (6, 8), mode="bilinear", align_corners=False)
    assert torch.equal(pearson_imitation(student, teacher), pearson_imitation(resized, teacher))


@pytest.mark.parametrize("value", [0.0, 1e-3, -7.7, 1000.1, 3.3e4])
def test_a_constant_channel_counts_as_0_and_gets_no_gradient(value: float) -> None:
    student, teacher = maps(2, 2, 5, 6)
    student[:, 1] = value
    student.requires_grad_()
    loss = pearson_imitation(student, teacher)
    loss.backward()
    other = pearson_imitation(student[:, :1], teacher[:, :1])
    # The sum of the teacher's standardized squares is n - 1.
    assert loss.item() == pytest.approx((other.item() + 59 / 60 / 2) / 2, rel=1e-5)
    assert not student.grad[:, 1].any() and student.grad[:, 0].any()
    assert student.grad.isfinite().all()


def test_constant_maps_of_both_cost_nothing() -> None:
    student = torch.full((1, 2, 3, 4), 5.0, requires_grad=True)
    loss = pearson_imitation(student, torch.full((1, 2, 3, 4), -2.0))
    loss.backward()
    assert loss == 0 and not student.grad.any()


@pytest.mark.parametrize("size", [(1, 3, 1, 1), (0, 3, 4, 4), (2, 3, 0, 4)])
def test_one_place_and_none_cost_nothing(size: tuple[int, ...]) -> None:
    student, teacher = maps(*size)
    student.requires_grad_()
    loss = pearson_imitation(student, teacher)
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_the_loss_is_a_float32_scalar_also_under_autocast() -> None:
    student, teacher = (x.bfloat16() for x in maps(2, 4, 5, 6))
    expected = pearson_imitation(student.float(), teacher.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pearson_imitation(student, teacher)
    assert loss.dtype == torch.float32 and loss.shape == ()
    torch.testing.assert_close(loss, expected)


def test_a_nan_is_not_hidden() -> None:
    student, teacher = maps(1, 2, 3, 4)
    student[0, 0, 0, 0] = math.nan
    assert pearson_imitation(student, teacher).isnan()

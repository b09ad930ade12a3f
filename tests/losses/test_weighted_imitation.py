"""The losses on proposals: by hand, gradients, empty and extreme selections."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill.losses import (
    cosine_imitation,
    entropy_imitation,
    inner_product_imitation,
    squared_imitation,
)


def entropy(student: Tensor, teacher: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """The entropy loss at the variance that training begins with."""
    return entropy_imitation(student, teacher, torch.zeros(()), weight=weight)


Loss = Callable[..., Tensor]
LOSSES = {
    "entropy": entropy,
    "squared": squared_imitation,
    "cosine": cosine_imitation,
    "inner_product": inner_product_imitation,
}
EVERY = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)

# Two positions of two channels.
STUDENT = torch.tensor([[[[3.0, 0.0]], [[4.0, 2.0]]]])
TEACHER = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])


def features(*size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*size), torch.randn(*size)


# ------------------------------------------------------------- values


def test_the_squared_loss_by_hand() -> None:
    # Differences 2, 4 and 0, 1.
    assert squared_imitation(STUDENT, TEACHER).item() == pytest.approx(21 / 4)
    second = torch.tensor([[[[0.0, 1.0]]]])
    assert squared_imitation(STUDENT, TEACHER, weight=second).item() == pytest.approx(1 / 2)
    # Each channel its own weight: 4 and 1 of the elements.
    own = torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]]]])
    assert squared_imitation(STUDENT, TEACHER, weight=own).item() == pytest.approx((4 + 3) / 4)


@pytest.mark.parametrize("log_variance", [-1.5, 0.0, 2.0])
@pytest.mark.parametrize("log_weight", [1e-3, 0.5])
def test_the_entropy_loss_by_hand(log_variance: float, log_weight: float) -> None:
    arguments = {"log_weight": log_weight}
    found = entropy_imitation(STUDENT, TEACHER, torch.tensor(log_variance), **arguments)
    squares = 21 / 4
    expected = squares + squares / math.exp(log_variance) + log_weight * log_variance
    assert found.item() == pytest.approx(expected, rel=1e-6)
    second = torch.tensor([[[[0.0, 1.0]]]])
    weighted = entropy_imitation(
        STUDENT, TEACHER, torch.tensor(log_variance), weight=second, **arguments
    )
    expected = 0.5 + 0.5 / math.exp(log_variance) + log_weight * log_variance
    assert weighted.item() == pytest.approx(expected, rel=1e-6)


def test_the_entropy_loss_is_least_where_the_variance_fits_the_errors() -> None:
    # d/dv (m exp(-v) + w v) = 0 at exp(v) = m / w.
    log_variance = torch.tensor(math.log(21 / 4 / 0.5), requires_grad=True)
    entropy_imitation(STUDENT, TEACHER, log_variance, log_weight=0.5).backward()
    assert log_variance.grad.item() == pytest.approx(0, abs=1e-6)


def test_the_cosine_loss_by_hand() -> None:
    # Cosines 3 / 5 and 1.
    assert cosine_imitation(STUDENT, TEACHER).item() == pytest.approx(0.4 / 2)
    first = torch.tensor([[[[1.0, 0.0]]]])
    assert cosine_imitation(STUDENT, TEACHER, weight=first).item() == pytest.approx(0.4)
    assert cosine_imitation(-TEACHER, TEACHER).item() == pytest.approx(2.0)


def test_the_inner_product_loss_by_hand() -> None:
    # <s - t, t> is 2 and 1, over two channels each.
    assert inner_product_imitation(STUDENT, TEACHER).item() == pytest.approx((1 + 0.25) / 2)
    second = torch.tensor([[[[0.0, 1.0]]]])
    found = inner_product_imitation(STUDENT, TEACHER, weight=second)
    assert found.item() == pytest.approx(0.25)


@EVERY
def test_equal_features_cost_nothing(loss: Loss) -> None:
    teacher = torch.randn(3, 4, 2, 5)
    torch.testing.assert_close(loss(teacher.clone(), teacher), torch.tensor(0.0))
    weight = torch.rand(3, 1, 2, 5)
    torch.testing.assert_close(loss(teacher.clone(), teacher, weight=weight), torch.tensor(0.0))


def test_what_the_cosine_and_the_inner_product_do_not_see() -> None:
    teacher = torch.randn(3, 4, 2, 5)
    torch.testing.assert_close(cosine_imitation(7 * teacher, teacher), torch.tensor(0.0))
    assert inner_product_imitation(7 * teacher, teacher) > 0.1
    across = torch.randn_like(teacher)
    across -= (across * teacher).sum(1, keepdim=True) / teacher.square().sum(1, True) * teacher
    found = inner_product_imitation(teacher + across, teacher)
    torch.testing.assert_close(found, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert cosine_imitation(teacher + across, teacher) > 0.1


# ------------------------------------------------------------- selection


@EVERY
def test_the_mean_is_that_of_the_selected_elements(loss: Loss) -> None:
    student, teacher = features(2, 4, 3, 6)
    weight = torch.zeros(2, 1, 3, 6)
    weight[0, :, 1:, 2:4] = 1
    found = loss(student, teacher, weight=weight)
    alone = loss(student[:1, :, 1:, 2:4], teacher[:1, :, 1:, 2:4])
    torch.testing.assert_close(found, alone)


def surprising(student: Tensor, teacher: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """The entropy loss where its logarithm counts."""
    return entropy_imitation(student, teacher, torch.tensor(3.0), log_weight=0.7, weight=weight)


@pytest.mark.parametrize("loss", [*LOSSES.values(), surprising])
def test_twice_the_area_that_is_not_selected_changes_nothing(loss: Loss) -> None:
    # In the authors' release one term is summed over all positions, but divided by the masked ones.
    student, teacher = features(2, 4, 3, 6)
    weight = (torch.rand(2, 1, 3, 6) < 0.4).float()
    rest = features(2, 4, 3, 6)
    wider = [torch.cat([x, y], -1) for x, y in zip((student, teacher), rest, strict=True)]
    found = loss(*wider, weight=torch.cat([weight, torch.zeros_like(weight)], -1))
    torch.testing.assert_close(found, loss(student, teacher, weight=weight))


@EVERY
def test_weights_of_places_are_broadcast_and_only_relative(loss: Loss) -> None:
    student, teacher = features(5, 4, 3, 6)
    kept = torch.tensor([True, False, True, True, False])
    found = loss(student, teacher, weight=kept[:, None, None, None])
    torch.testing.assert_close(found, loss(student[kept], teacher[kept]))
    graded = torch.tensor([1.0, 0.0, 3.0, 0.0, 0.0])[:, None, None, None]
    expected = (loss(student[:1], teacher[:1]) + 3 * loss(student[2:3], teacher[2:3])) / 4
    torch.testing.assert_close(loss(student, teacher, weight=graded), expected)
    torch.testing.assert_close(loss(student, teacher, weight=100 * graded), expected)


@pytest.mark.parametrize("loss", [entropy, squared_imitation])
def test_the_teachers_side_of_a_difference_may_be_one_zero(loss: Loss) -> None:
    difference = torch.randn(5, 4, 3, 6)
    expected = loss(difference, torch.zeros_like(difference))
    assert torch.equal(loss(difference, torch.zeros(())), expected)


@EVERY
@pytest.mark.parametrize(
    ("size", "weight"),
    [
        ((3, 4, 2, 5), torch.zeros(3, 1, 2, 5)),
        ((3, 4, 2, 5), torch.zeros(3, 1, 1, 1, dtype=torch.bool)),
        ((3, 4, 2, 5), torch.zeros(1, 1, 1, 1)),
        ((0, 4, 2, 5), None),
        ((0, 4, 2, 5), torch.zeros(0, 1, 1, 1)),
    ],
)
def test_without_selection_loss_and_gradients_are_zero(
    loss: Loss, size: tuple[int, ...], weight: Tensor | None
) -> None:
    student, teacher = features(*size)
    student.requires_grad_()
    log_variance = torch.tensor(2.0, requires_grad=True)
    if loss is entropy:
        found = entropy_imitation(student, teacher, log_variance, log_weight=1.0, weight=weight)
    else:
        found = loss(student, teacher, weight=weight) + 0 * log_variance
    found.backward()
    assert found == 0
    assert torch.equal(student.grad, torch.zeros(size)) and log_variance.grad == 0


# ------------------------------------------------------------- gradients


def numeric(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-2) -> Tensor:
    """The gradient by central differences, of a loss that computes in float32."""
    gradient = torch.zeros_like(at)
    for i in range(at.numel()):
        change = torch.zeros(at.numel())
        change[i] = step
        change = change.view_as(at)
        gradient.view(-1)[i] = (function(at + change) - function(at - change)) / (2 * step)
    return gradient


@EVERY
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_finite_differences(loss: Loss, weighted: bool) -> None:
    # Away from zero vectors, where the cosine bends too much for the step.
    student, teacher = (x + x.sign() for x in features(2, 3, 1, 3))
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 0.0]).view(2, 1, 1, 3) if weighted else None
    student.requires_grad_()
    (found,) = torch.autograd.grad(loss(student, teacher, weight=weight), student)
    expected = numeric(lambda x: loss(x, teacher, weight=weight), student.detach())
    assert expected.abs().sum() > 0
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("at", [-1.0, 0.0, 2.0])
def test_the_gradient_of_the_variance_is_that_of_finite_differences(at: float) -> None:
    student, teacher = features(2, 3, 1, 3)
    weight = torch.rand(2, 1, 1, 3)

    def value(log_variance: Tensor) -> Tensor:
        return entropy_imitation(student, teacher, log_variance, log_weight=0.3, weight=weight)

    log_variance = torch.tensor(at, requires_grad=True)
    (found,) = torch.autograd.grad(value(log_variance), log_variance)
    torch.testing.assert_close(found, numeric(value, log_variance.detach()), rtol=1e-2, atol=1e-3)


@EVERY
def test_the_teacher_and_the_weight_get_no_gradient(loss: Loss) -> None:
    student, teacher = (x.requires_grad_() for x in features(2, 4, 3, 6))
    weight = torch.rand(2, 1, 3, 6, requires_grad=True)
    loss(student, teacher, weight=weight).backward()
    assert student.grad.any() and teacher.grad is None and weight.grad is None


# ------------------------------------------------------------- extremes


@EVERY
def test_constant_zero_and_large_features_stay_finite(loss: Loss) -> None:
    _, teacher = features(2, 4, 3, 6)
    for student, target in (
        (torch.zeros_like(teacher), teacher),
        (teacher, torch.zeros_like(teacher)),
        (torch.zeros_like(teacher), torch.zeros_like(teacher)),
        (500 * torch.ones_like(teacher), -500 * torch.ones_like(teacher)),
        (1e4 * teacher, -1e4 * teacher),
    ):
        mine = student.clone().requires_grad_()
        found = loss(mine, target)
        (gradient,) = torch.autograd.grad(found, mine)
        assert found.isfinite() and gradient.isfinite().all()


@EVERY
def test_the_loss_is_a_float32_scalar_also_under_autocast(loss: Loss) -> None:
    student, teacher = features(2, 4, 3, 6)
    expected = loss(student.bfloat16().float(), teacher.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(student.bfloat16(), teacher.bfloat16())
    assert found.dtype == torch.float32 and found.shape == ()
    torch.testing.assert_close(found, expected)


def test_the_variance_counts_in_float32_whatever_its_type() -> None:
    student, teacher = features(2, 4, 3, 6)
    found = entropy_imitation(student, teacher, torch.tensor(1.5).bfloat16())
    torch.testing.assert_close(found, entropy_imitation(student, teacher, torch.tensor(1.5)))

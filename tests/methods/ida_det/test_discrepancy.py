"""The discrepancy: by hand, and against the faults that a discrepancy can have."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from distill.methods.ida_det.discrepancy import padded_discrepancy, proposal_discrepancy
from distill.methods.ida_det.selection import select_most_discrepant


def by_hand(
    student: list[list[list[float]]], teacher: list[list[list[float]]], temperature: float
) -> list[float]:
    """n pairs of C channels of S values in plain Python, as the formula is printed."""

    def softmax(values: list[float]) -> list[float]:
        total = sum(math.exp(x / temperature) for x in values)
        return [math.exp(x / temperature) / total for x in values]

    distances, variances = [], []
    for mine, other in zip(student, teacher, strict=True):
        for p, q in zip(map(softmax, mine), map(softmax, other), strict=True):
            both = p + q
            mean = sum(both) / len(both)
            variances.append(sum((x - mean) ** 2 for x in both) / len(both))
            distances.append(sum((a - b) ** 2 for a, b in zip(p, q, strict=True)))
    floor = 1e-3 * sum(variances) / len(variances) + 1e-12
    terms = [d / (v + floor) for d, v in zip(distances, variances, strict=True)]
    channels = len(student[0])
    return [sum(terms[i : i + channels]) for i in range(0, len(terms), channels)]


def crops(n: int = 4, channels: int = 3, size: tuple[int, int] = (2, 5)) -> Tensor:
    return torch.randn(n, channels, *size)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_tiny_case_by_hand(temperature: float) -> None:
    student = [[[0.0, 1, 2, -1], [3.0, 3, 0, 0]], [[1.0, 1, 1, 1], [0.0, 2, 0, 2]]]
    teacher = [[[1.0, 0, 2, 0], [3.0, 3, 0, 0]], [[0.0, 4, 0, 0], [2.0, 0, 2, 0]]]
    found = proposal_discrepancy(
        torch.tensor(student).view(2, 2, 2, 2),
        torch.tensor(teacher).view(2, 2, 2, 2),
        temperature=temperature,
    )
    expected = by_hand(student, teacher, temperature)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_one_number_a_pair_in_float32_without_gradient() -> None:
    student = crops().requires_grad_()
    found = proposal_discrepancy(student, crops().bfloat16())
    assert found.shape == (4,) and found.dtype == torch.float32
    assert not found.requires_grad and (found > 0).all()
    assert proposal_discrepancy(crops(0), crops(0)).shape == (0,)


def test_both_layouts_give_the_same() -> None:
    student, teacher = crops(), crops()
    by_proposal = [x.flatten(2).transpose(1, 2) for x in (student, teacher)]
    expected = proposal_discrepancy(student, teacher)
    assert torch.equal(padded_discrepancy(*by_proposal), expected)
    batched = [x.unflatten(0, (2, 2)) for x in by_proposal]
    torch.testing.assert_close(padded_discrepancy(*batched), expected.view(2, 2))


def test_equal_crops_have_none_and_a_constant_a_channel_adds_none() -> None:
    student = crops()
    assert torch.equal(proposal_discrepancy(student, student.clone()), torch.zeros(4))
    # Halves, so that the sums are exact.
    student = (student * 8).round() / 8
    shifted = student + torch.tensor([0.5, -8.0, 64.0]).view(3, 1, 1)
    torch.testing.assert_close(
        proposal_discrepancy(student, shifted), torch.zeros(4), atol=1e-5, rtol=0
    )


def test_teacher_and_student_may_be_exchanged() -> None:
    student, teacher = crops(), crops()
    assert torch.equal(
        proposal_discrepancy(student, teacher), proposal_discrepancy(teacher, student)
    )


def test_two_patterns_of_equal_variance_are_told_apart() -> None:
    # The authors' release compares the variances, which a permutation of the places leaves alone.
    student = crops()
    mirrored = student.flip(-1)
    shuffled = student.flatten(2)[..., torch.randperm(10)].view_as(student)
    for teacher in (mirrored, shuffled):
        assert (proposal_discrepancy(student, teacher) > 0.1).all()


def test_the_distance_counts_in_units_of_the_variance() -> None:
    # With all of the mass on one place each, p and q have the distance 2 and the variance
    # 1 / S - 1 / S^2, whatever the other channels do.
    student, teacher = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    student[..., 0, 1], teacher[..., 1, 2] = 200, 200
    variance = 1 / 8 - 1 / 64
    found = proposal_discrepancy(student, teacher)
    assert found.item() == pytest.approx(2 / (1.001 * variance), rel=1e-5)


def test_constant_channels_are_no_discrepancy_and_no_nan() -> None:
    student, teacher = crops(5), crops(5)
    student[0], teacher[0] = 3.0, -7.0
    student[1, :2], teacher[1, :2] = 0.0, 100.0
    found = proposal_discrepancy(student, teacher)
    assert found.isfinite().all() and found[0] == 0
    # What is left of the second is its third channel.
    alone = by_hand(
        *([x[i].flatten(1).tolist() for i in range(5)] for x in (student, teacher)), temperature=1.0
    )
    torch.testing.assert_close(found, torch.tensor(alone), rtol=1e-4, atol=1e-6)
    everything = proposal_discrepancy(torch.full((3, 2, 7, 7), 5.0), torch.zeros(3, 2, 7, 7))
    assert torch.equal(everything, torch.zeros(3))


def test_a_constant_crop_is_never_selected_before_a_discrepant_one() -> None:
    student, teacher = crops(6), crops(6)
    student[[0, 3]], teacher[[0, 3]] = 2.0, 9.0
    order = select_most_discrepant(proposal_discrepancy(student, teacher), 1.0)
    assert set(order[-2:].tolist()) == {0, 3}


def test_a_channel_dead_in_one_detector_stays_finite() -> None:
    student, teacher = crops(), crops()
    student[:, 1] = 0.0
    found = proposal_discrepancy(student, teacher)
    assert found.isfinite().all() and (found > 0).all()


@pytest.mark.parametrize("size", [300.0, 1e4, 1e30])
def test_values_in_the_hundreds_and_beyond_are_finite(size: float) -> None:
    found = proposal_discrepancy(size * crops(), size * crops())
    assert found.isfinite().all() and (found > 0).all()


def test_a_temperature_divides_the_values() -> None:
    student, teacher = crops(), crops()
    torch.testing.assert_close(
        proposal_discrepancy(student, teacher, temperature=4.0),
        proposal_discrepancy(student / 4, teacher / 4),
    )
    assert not torch.allclose(
        proposal_discrepancy(student, teacher, temperature=4.0),
        proposal_discrepancy(student, teacher),
    )


def test_small_values_as_of_large_crops_are_not_swamped_by_the_floor() -> None:
    # At 7 x 7 places the probabilities are about 1 / 49, and their variance far smaller yet.
    student, teacher = 0.01 * crops(4, 3, (7, 7)), 0.01 * crops(4, 3, (7, 7))
    expected = by_hand(*([y.flatten(1).tolist() for y in x] for x in (student, teacher)), 1.0)
    found = proposal_discrepancy(student, teacher)
    # Independent patterns: a distance of 49 * 2 variances, in three channels.
    assert (found > 100).all()
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=0)


def test_proposals_that_are_padding_do_not_count_in_the_floor() -> None:
    student, teacher = (torch.randn(2, 3, 9, 4) for _ in range(2))
    valid = torch.tensor([[True, True, False], [True, False, False]])
    found = padded_discrepancy(student, teacher, valid=valid)
    alone = padded_discrepancy(student[valid], teacher[valid])
    torch.testing.assert_close(found[valid], alone)
    # A padded proposal of another range would move a floor that it counted in.
    student[~valid] *= 50
    again = padded_discrepancy(student, teacher, valid=valid)
    assert torch.equal(again[valid], found[valid])
    nothing = padded_discrepancy(student, teacher, valid=torch.zeros_like(valid))
    assert nothing.isfinite().all()

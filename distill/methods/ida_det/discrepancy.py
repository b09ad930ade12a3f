"""How much teacher and student disagree about a proposal.

Source: information-discrepancy-aware distillation (IDa-Det), arXiv 2210.03477. The channel-wise
softmax and the Mahalanobis form are the paper's; its covariance of two samples is singular, so that
the variance as a scalar, and the floor under it, are choices of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "proposal_discrepancy",
    "padded_discrepancy",
    "relative_distance",
    "softmax_distance",
]

_RELATIVE_FLOOR = 1e-3
_ABSOLUTE_FLOOR = 1e-12


def proposal_discrepancy(
    student_rois: Tensor, teacher_rois: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """The discrepancy of n pairs of crops, see `padded_discrepancy`.

    Args:
        student_rois: (n, C, h, w) crops of the student's feature map.
        teacher_rois: (n, C, h, w) crops of the teacher's at the same places.
        temperature: divides the values before the softmax.

    Returns:
        (n,) float32, without gradient; 0 where the crops differ by a constant a channel.
    """
    student, teacher = (x.flatten(2).transpose(1, 2) for x in (student_rois, teacher_rois))
    return padded_discrepancy(student, teacher, temperature=temperature)


def padded_discrepancy(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    """sum_c ||p_c - q_c||^2 / (var_c + e), with p and q the softmax over the S positions.

    var_c is the variance of the 2 S values of p_c and q_c, and e = 1e-3 mean(var) + 1e-12, the mean
    over all proposals and channels: the values are about 1 / S, so that a fixed floor would swamp
    them.

    Args:
        student: (..., S, C) values at S positions of each proposal.
        teacher: (..., S, C) values at the same positions.
        temperature: divides the values before the softmax.
        valid: (...) bool, proposals that count in the mean of the variance; all if None.

    Returns:
        (...) float32 discrepancies; finite for finite values, constant ones included.
    """
    distance, variance = softmax_distance(student, teacher, temperature=temperature)
    return relative_distance(distance, variance, valid)


@torch.no_grad()
def softmax_distance(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """||p_c - q_c||^2 and var_c of `padded_discrepancy`, which proposals may enter in turns.

    Args:
        student: (..., S, C) values at S positions of each proposal.
        teacher: (..., S, C) values at the same positions.
        temperature: divides the values before the softmax.

    Returns:
        Two of (..., C) float32.
    """
    positions = student.shape[-2]
    student, teacher = student.float(), teacher.float()
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    # Centered, as the variance of nearly constant values would else be lost in rounding.
    p, q = (x.softmax(-2).sub_(1 / positions) for x in (student, teacher))
    variance = (p.square().sum(-2) + q.square().sum(-2)) / (2 * positions)
    return p.sub_(q).square_().sum(-2), variance


@torch.no_grad()
def relative_distance(distance: Tensor, variance: Tensor, valid: Tensor | None = None) -> Tensor:
    """The discrepancies from what `softmax_distance` returns.

    Args:
        distance: (..., C) squared distances of all proposals.
        variance: (..., C) their variances.
        valid: (...) bool, proposals that count in the mean of the variance; all if None.

    Returns:
        (...) float32.
    """
    if valid is None:
        mean = variance.mean() if variance.numel() else variance.sum()
    else:
        count = (valid.sum() * variance.shape[-1]).clamp(min=1)
        mean = (variance * valid[..., None]).sum() / count
    return (distance / (variance + (_RELATIVE_FLOOR * mean + _ABSOLUTE_FLOOR))).sum(-1)

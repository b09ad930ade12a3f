"""Distillation of the distributions by which a box's sides are predicted.

Source: localization distillation (LD), arXiv 2102.12252; the reduction is from the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["distribution_distillation"]

_SIDES = 4


def distribution_distillation(
    student: Tensor,
    teacher: Tensor,
    weight: Tensor,
    *,
    bins: int = 17,
    temperature: float = 10.0,
) -> Tensor:
    """Weighted sum over locations of T^2 * KL(teacher, student) of the softmax at temperature T.

    As in the authors' code, the divergence of a side is averaged over the bins (not only summed),
    and that of a location over its 4 sides. Nothing else normalizes it: it is divided neither by
    the number of positives nor by the sum of the weights, unlike the box loss beside it. (The
    authors divide the term of the valuable region by 16 where this divides by 4.)

    Args:
        student: (R, 4 * bins) logits, side by side: left, top, right, bottom.
        teacher: (R, 4 * bins), likewise, taken as constants.
        weight: (R,) not negative; 0 keeps a location out, whatever its logits. The authors take
            the student's largest class probability on positives.
        bins: distances a side can take, reg_max + 1.
        temperature: T.

    Returns:
        float32 scalar; 0 where the logits are equal up to a constant, and without locations.

    Raises:
        ValueError: if the logits do not have 4 * bins columns.
    """
    if student.shape[1] != _SIDES * bins or teacher.shape[1] != _SIDES * bins:
        raise ValueError(
            f"{student.shape[1]} and {teacher.shape[1]} logits per location do not describe 4 "
            f"sides of {bins} bins; give both models that number of bins"
        )
    weight = weight.detach().float()
    log_p = _log_probabilities(student, weight, bins, temperature)
    log_q = _log_probabilities(teacher.detach(), weight, bins, temperature)
    divergence = (log_q.exp() * (log_q - log_p)).sum((1, 2))
    return (divergence * weight).sum() * (temperature**2 / (bins * _SIDES))


def _log_probabilities(logits: Tensor, weight: Tensor, bins: int, temperature: float) -> Tensor:
    """(R, 4, bins) log-probabilities; uniform where the weight is 0."""
    logits = logits.float().masked_fill(weight[:, None] == 0, 0)
    return torch.log_softmax(logits.reshape(-1, _SIDES, bins) / temperature, dim=2)

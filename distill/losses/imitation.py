"""Imitation of feature maps, by squared error.

Sources: the mean is the hint of FitNet, arXiv 1412.6550; the normalizer 2 * C * sum(mask) is a
second-hand account of task-adaptive regularization, arXiv 2006.13108, and its floor of 1 a choice
of ours, so that an empty mask gives zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["masked_imitation", "squared_imitation", "weighted_mean"]


def masked_imitation(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Sum of mask * (student - teacher)^2 over 2 * max(1, C * sum(mask)).

    Args:
        student: (N, C, H, W) feature map.
        teacher: (N, C, H, W) target, taken as a constant.
        mask: (N, 1, H, W) weights of the cells, not negative.

    Returns:
        float32 scalar; 0 where the maps are equal or the mask is empty.
    """
    mask = mask.detach().float()
    total = (_squared_distance(student, teacher) * mask).sum()
    return total / (2 * (student.shape[1] * mask.sum()).clamp(min=1))


def squared_imitation(
    student: Tensor, teacher: Tensor | None, *, weight: Tensor | None = None
) -> Tensor:
    """Mean of (student - teacher)^2, weighted.

    Args:
        student: (n, C, h, w) features.
        teacher: (n, C, h, w) target, taken as a constant; None where `student` is the difference.
        weight: what each element counts, broadcast to the features; all alike if None.

    Returns:
        float32 scalar; 0 where both are equal, and without elements.
    """
    if weight is None or weight.shape[1] > 1:
        return weighted_mean(_difference(student, teacher).square(), weight)
    return weighted_mean(_squared_distance(student, teacher) / student.shape[1], weight)


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of values of which each counts as much as its weight.

    Args:
        values: (n, C, h, w), or (n, 1, h, w) where the channels are averaged already.
        weight: broadcast to the values, or (n, 1, h, w) for all channels alike; None for all values
            alike. Taken as a constant.

    Returns:
        float32 scalar; 0 without values, and where the weights are 0.
    """
    if weight is None:
        return values.sum() / max(1, values.numel())
    weight = weight.detach().float()
    if weight.shape[1] == 1:
        # The channels are averaged first: the weight is then multiplied into one instead of C.
        values = values.mean(1, keepdim=True)
    total = weight.expand_as(values).sum()
    return (values * weight).sum() / total.clamp(min=torch.finfo(torch.float32).tiny)


def _squared_distance(student: Tensor, teacher: Tensor | None) -> Tensor:
    """(N, 1, H, W) squared differences of (N, C, H, W) maps, summed over the channels.

    One pass over the channels each way, several times faster than squares and their sum.
    """
    norm = torch.linalg.vector_norm(_difference(student, teacher), dim=1, keepdim=True)
    return norm.square()


def _difference(student: Tensor, teacher: Tensor | None) -> Tensor:
    """The difference in float32, the teacher as a constant; the student itself without teacher."""
    return student.float() if teacher is None else student.float() - teacher.detach().float()

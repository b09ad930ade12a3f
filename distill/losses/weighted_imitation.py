"""Imitation of the teacher's features in selected proposals.

Source: information-discrepancy-aware distillation (IDa-Det), arXiv 2210.03477. The entropy loss is
the usable form of what is printed there: the squared distance in place of the unsquared one, and
one learnable variance, by its logarithm, in place of a covariance that need not be positive. Cosine
and inner product are rows of the paper's ablation whose formulas are not known: these are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.losses.imitation import squared_imitation, weighted_mean

__all__ = ["cosine_imitation", "entropy_imitation", "inner_product_imitation"]


def entropy_imitation(
    student: Tensor,
    teacher: Tensor | None,
    log_variance: Tensor,
    *,
    log_weight: float = 1e-3,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean of d^2 + d^2 / variance + log_weight * log(variance), d = student - teacher.

    Args:
        student: (n, C, h, w) features.
        teacher: (n, C, h, w) target, taken as a constant; None where `student` is the difference.
        log_variance: scalar logarithm of the variance, usually learnable.
        log_weight: factor of the logarithm; 1e-3 is that of the authors' release.
        weight: what each element counts, broadcast to the features; all alike if None.

    Returns:
        float32 scalar; 0 without elements.
    """
    squares = squared_imitation(student, teacher, weight=weight)
    log_variance = log_variance.float()
    entropy = squares * (1 + torch.exp(-log_variance)) + log_weight * log_variance
    # Without elements there is nothing whose entropy could count.
    present = float(student.numel() > 0) if weight is None else (weight.detach() > 0).any()
    return entropy * present


def cosine_imitation(student: Tensor, teacher: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean over positions of 1 - cosine between the two channel vectors.

    Args:
        student: (n, C, h, w) features.
        teacher: (n, C, h, w) target, taken as a constant.
        weight: (n, 1, h, w) or what broadcasts to it: what each position counts.

    Returns:
        float32 scalar in [0, 2]; 0 where the vectors have one direction.
    """
    cosine = torch.cosine_similarity(student.float(), teacher.detach().float(), dim=1, eps=1e-6)
    return weighted_mean(1 - cosine[:, None], weight)


def inner_product_imitation(
    student: Tensor, teacher: Tensor, *, weight: Tensor | None = None
) -> Tensor:
    """Mean over positions of ((<s, t> - <t, t>) / C)^2: only the part along the teacher counts.

    Args:
        student: (n, C, h, w) features s.
        teacher: (n, C, h, w) target t, taken as a constant.
        weight: (n, 1, h, w) or what broadcasts to it: what each position counts.

    Returns:
        float32 scalar; 0 where the student is equal to the teacher, or differs orthogonally.
    """
    teacher = teacher.detach().float()
    product = ((student.float() - teacher) * teacher).mean(1, keepdim=True)
    return weighted_mean(product.square(), weight)

"""Imitation of feature maps up to scale and offset, by Pearson correlation.

Source: PKD, arXiv 2207.02039; the unbiased deviation, the place of the small constant and that the
gradient passes through the student's statistics are from the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pearson_imitation"]

# Added to the deviation, so that a constant channel is not divided by 0.
_MIN_DEVIATION = 1e-6


def pearson_imitation(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of the maps, once every channel is standardized.

    A channel is standardized over all n = N H W places of the batch: less its mean, divided by its
    unbiased deviation plus 1e-6. For r, the correlation of a channel of both maps, that is the mean
    of (1 - r) (n - 1) / n. A constant channel has no correlation: it counts as 0 everywhere. That
    one of the student then gets no gradient is ours; by the formula it is divided by 1e-6.

    Args:
        student: (N, C, H, W) feature map; where its height and width are not the teacher's, it is
            resized to them, bilinearly.
        teacher: (N, C, H', W') target, taken as a constant.

    Returns:
        float32 scalar in [0, 2]; 0 where each channel of one is that of the other times a positive
        factor, plus an offset, and without places.
    """
    student, teacher = student.float(), teacher.detach().float()
    if not teacher.numel():
        return 0 * student.sum()
    if student.shape[-2:] != teacher.shape[-2:]:
        student = F.interpolate(student, teacher.shape[-2:], mode="bilinear", align_corners=False)
    return (_standardize(student) - _standardize(teacher)).square().mean() / 2


def _standardize(maps: Tensor) -> Tensor:
    """(N, C, H, W) with mean 0 and deviation 1 in every channel, gradient through both."""
    # A single place has no unbiased deviation, but a biased one of 0.
    correction = min(1, maps[:, 0].numel() - 1)
    deviation, mean = torch.std_mean(maps, (0, 2, 3), correction=correction, keepdim=True)
    scale = torch.where(deviation > 0, 1 / (deviation + _MIN_DEVIATION), 0)
    return (maps - mean) * scale

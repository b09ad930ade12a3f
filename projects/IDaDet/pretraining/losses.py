"""Losses of image classification."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["distribution_loss"]


def distribution_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of the student's class scores against the teacher's.

    ReActNet's (arXiv 2003.03488) distributional loss: the Kullback-Leibler divergence up to the
    teacher's entropy, which has no gradient for the student.

    Args:
        student_logits: (N, K).
        teacher_logits: (N, K); no gradient flows into it.

    Returns:
        Scalar float32, the mean over the images.
    """
    with torch.autocast(student_logits.device.type, enabled=False):
        targets = teacher_logits.detach().float().softmax(dim=1)
        return F.cross_entropy(student_logits.float(), targets)

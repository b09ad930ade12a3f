"""Softmax scores as the scores of independent classes, computed from logits.

The losses of dense detectors are defined on a probability for each class of its own. Reading a
softmax as such, so that they apply to SSD and to ROI heads, is a choice of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["binary_class_logits", "log_one_minus_softmax"]


def binary_class_logits(scores: Tensor) -> Tensor:
    """The logit of each foreground class' softmax probability: log p - log(1 - p).

    Args:
        scores: (..., K + 1) logits, the background last.

    Returns:
        (..., K) float32 logits, whose sigmoid is the softmax; exact for any finite scores.
    """
    scores = scores.float()
    log_p = scores.log_softmax(-1)
    return (log_p - log_one_minus_softmax(scores, log_p))[..., :-1]


def log_one_minus_softmax(logits: Tensor, log_p: Tensor) -> Tensor:
    """log(1 - softmax(logits)) without cancellation.

    Only the largest class of a row can come close to 1; its complement is the sum over the others.

    Args:
        logits: (..., K) logits, K >= 2.
        log_p: (..., K) their log-softmax.

    Returns:
        (..., K) logarithms.
    """
    if not logits.numel():
        return log_p
    top = logits.argmax(-1, keepdim=True)
    others = logits.scatter(-1, top, float("-inf")).logsumexp(-1, keepdim=True)
    complement_of_top = others - logits.logsumexp(-1, keepdim=True)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, top, True)
    # The argument of log1p is masked before the logarithm, or its infinite gradient, though it
    # is multiplied by zero, would be NaN.
    small = log_p.exp().masked_fill(is_top, 0.0)
    return torch.where(is_top, complement_of_top, torch.log1p(-small))

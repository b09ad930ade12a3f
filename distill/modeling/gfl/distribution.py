"""Distances as distributions over bins (GFL, arXiv 2006.04388)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["expected_distance"]


def expected_distance(logits: Tensor) -> Tensor:
    """The mean of a distribution over the distances 0, 1, 2, ...

    Args:
        logits: (..., n + 1), before the softmax.

    Returns:
        (...) between 0 and n, float32.
    """
    probabilities = logits.float().softmax(dim=-1)
    return probabilities @ torch.arange(
        logits.shape[-1], dtype=probabilities.dtype, device=logits.device
    )

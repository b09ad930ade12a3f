"""The best-scored share of the proposals.

Source: information-discrepancy-aware distillation (IDa-Det), arXiv 2210.03477, takes a proportion
of the most discrepant proposals of each image; rounding and the treatment of ties are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["check_fraction", "select_most_discrepant", "select_top"]


def check_fraction(fraction: float, name: str = "fraction") -> float:
    """The fraction itself.

    Args:
        fraction: share of the proposals to select.
        name: its name, for the message.

    Raises:
        ValueError: if it is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"{name} is {fraction}; it must be above 0 and at most 1")
    return fraction


def select_most_discrepant(discrepancy: Tensor, fraction: float) -> Tensor:
    """Indices of the most discrepant proposals of one image, the largest first.

    Args:
        discrepancy: (n,) values; those that are not a number come last.
        fraction: share of the proposals, in (0, 1].

    Returns:
        (k,) indices, k = max(1, fraction * n rounded half up); none if n is 0.

    Raises:
        ValueError: if the fraction is out of range.
    """
    valid = torch.ones_like(discrepancy, dtype=torch.bool)
    index, _ = select_top(discrepancy[None], valid[None], fraction)
    return index[0]


def select_top(scores: Tensor, valid: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """The best-scored share of each image's valid proposals, without asking the device how many.

    Args:
        scores: (N, P) values; those that are not a number come last.
        valid: (N, P) bool.
        fraction: share of the valid proposals of each image, in (0, 1], at least one of them.

    Returns:
        (N, k) indices, the best first, and (N, k) bool: False beyond an image's own number. k is
        the number for an image whose P proposals are all valid.

    Raises:
        ValueError: if the fraction is out of range.
    """
    check_fraction(fraction)
    total = scores.shape[1]
    most = min(total, max(1, math.floor(fraction * total + 0.5)))
    scores = scores.float().nan_to_num(nan=-math.inf)
    # Not infinity: a valid proposal comes before an invalid one, whatever its score.
    ranked = scores.clamp(min=torch.finfo(torch.float32).min).masked_fill(~valid, -math.inf)
    index = ranked.topk(most, dim=1).indices
    counts = valid.sum(1)
    # In float64, as above: float32 would round some of the halves the other way.
    wanted = (fraction * counts.double() + 0.5).floor().clamp(min=1).minimum(counts)
    kept = torch.arange(most, device=scores.device) < wanted[:, None]
    return index, kept

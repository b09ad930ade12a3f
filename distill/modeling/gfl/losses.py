"""The two losses of Generalized Focal Loss (arXiv 2006.04388)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["distribution_focal_loss", "quality_focal_loss"]


def quality_focal_loss(logits: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Cross-entropy with a soft target, weighted by how far the probability is from it.

    |y - p|^beta times the binary cross-entropy of p and y; the weight has a gradient too.

    Args:
        logits: any shape, before the sigmoid that gives p.
        quality: the same shape, y: the IoU of the predicted box at an object's class, else 0.
        beta: exponent of the weight.

    Returns:
        The same shape, float32.
    """
    logits = logits.float()
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (quality - logits.sigmoid()).abs().pow(beta) * entropy


def distribution_focal_loss(logits: Tensor, distance: Tensor) -> Tensor:
    """Cross-entropy with the two bins around a distance, each weighted by its nearness.

    Args:
        logits: (..., n + 1) over the distances 0, 1, ..., n.
        distance: (...) the true distance, which must be in [0, n).

    Returns:
        (...) float32.
    """
    log_probabilities = logits.float().log_softmax(dim=-1)
    below = distance.long()
    fraction = distance - below
    near = log_probabilities.gather(-1, below[..., None])[..., 0]
    far = log_probabilities.gather(-1, below[..., None] + 1)[..., 0]
    return -((1 - fraction) * near + fraction * far)

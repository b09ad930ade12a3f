"""SSD's training objective (arXiv 1512.02325).

Letters: N images, R anchors, K classes without the background.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mine_hard_negatives", "multibox_loss"]


def mine_hard_negatives(
    loss: Tensor, positive: Tensor, ratio: float, ignored: Tensor | None = None
) -> Tensor:
    """Chooses the negatives of highest loss, so many for each positive of the same image.

    Args:
        loss: (N, R) loss of every anchor against its label.
        positive: (N, R) bool.
        ratio: negatives for each positive.
        ignored: (N, R) bool, which anchors are neither; None for none.

    Returns:
        (N, R) bool, True at the chosen negatives; of equal ones the first are taken.
    """
    excluded = positive if ignored is None else positive | ignored
    loss = loss.detach().masked_fill(excluded, -torch.inf)
    rank = loss.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < ratio * positive.sum(dim=1, keepdim=True)) & ~excluded


def multibox_loss(
    logits: Tensor, deltas: Tensor, labels: Tensor, target: Tensor, *, negative_ratio: float = 3.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy on positives and hard negatives, smooth L1 of the boxes on positives.

    Both are sums over the batch, divided by its number of positives (at least 1). As in the
    authors' code, an image without positives has no negatives either.

    Args:
        logits: (N, R, K + 1), the background last.
        deltas: (N, R, 4) predicted box deltas.
        labels: (N, R) int64, K for the background, -1 for what is neither.
        target: (N, R, 4) finite box deltas to be predicted where the label is an object.
        negative_ratio: negatives for each positive.

    Returns:
        Classification loss and box loss, float32 scalars.
    """
    ignored = labels < 0
    positive = ~ignored & (labels != logits.shape[-1] - 1)
    cross_entropy = F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none"
    ).view_as(labels)
    chosen = positive | mine_hard_negatives(cross_entropy, positive, negative_ratio, ignored)
    box = F.smooth_l1_loss(deltas.float(), target, reduction="none").sum(dim=-1)
    number = positive.sum().clamp(min=1)
    return (cross_entropy * chosen).sum() / number, (box * positive).sum() / number

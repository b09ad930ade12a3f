"""Filters of proposals that keep the padded form and ask nothing of the device.

Source: the releases of IDa-Det (arXiv 2210.03477) keep confident proposals after non-maximum
suppression; its text does not. Falling back to the best ones, where few are confident, is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.ops.boxes import aligned_overlap
from distill.views.proposals import Proposals

__all__ = ["filter_proposals", "join_proposals", "suppress_overlaps"]

# Rounds of non-maximum suppression: exact as long as no chain of boxes, each of which overlaps the
# next, better ones first, is longer.
_ROUNDS = 32


def filter_proposals(
    proposals: Proposals,
    *,
    topk: int = 0,
    threshold: float = 0.0,
    fallback: int = 0,
    nms_threshold: float = 0.0,
) -> Proposals:
    """The proposals that pass every filter, sorted by objectness.

    Args:
        proposals: proposals of N images.
        topk: at most so many an image; 0 for all.
        threshold: objectness above which a proposal is kept.
        fallback: the best so many of each image are kept whatever their objectness.
        nms_threshold: IoU above which the worse of two boxes is dropped; 0 switches it off.
    """
    total = proposals.boxes.shape[1]
    number = min(topk, total) if topk else total
    ranked = proposals.objectness.masked_fill(~proposals.valid, -1.0)
    index = ranked.topk(number, dim=1).indices
    boxes = proposals.boxes.gather(1, index[..., None].expand(-1, -1, 4))
    objectness = proposals.objectness.gather(1, index)
    valid = proposals.valid.gather(1, index)
    if threshold > 0:
        best = torch.arange(number, device=boxes.device) < fallback
        valid = valid & ((objectness > threshold) | best)
    if nms_threshold > 0:
        valid = suppress_overlaps(boxes, valid, nms_threshold)
    return Proposals(boxes, objectness, valid)


def join_proposals(first: Proposals, second: Proposals) -> Proposals:
    """The proposals of two detectors on the same images, the first's before the second's."""
    both = [
        torch.cat([getattr(first, name), getattr(second, name)], dim=1)
        for name in ("boxes", "objectness", "valid")
    ]
    return Proposals(*both)


def suppress_overlaps(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression of all images at once, as a fixed number of rounds.

    A box is dropped where a better one that is itself kept overlaps it. Starting from all boxes,
    every round decides at least the next box of each chain of overlaps.

    Args:
        boxes: (N, P, 4), the best first.
        valid: (N, P) bool; the others neither count nor suppress.
        threshold: IoU above which boxes overlap.

    Returns:
        (N, P) bool, the valid boxes that are kept.
    """
    # (N, better, worse)
    overlap = aligned_overlap(boxes[:, :, None], boxes[:, None], "iou") > threshold
    suppresses = (overlap & valid[:, :, None]).triu(diagonal=1).float()
    kept = valid
    for _ in range(min(_ROUNDS, boxes.shape[1])):
        suppressed = torch.bmm(kept.float()[:, None], suppresses)[:, 0] > 0
        kept = valid & ~suppressed
    return kept

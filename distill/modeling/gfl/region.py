"""Where boxes are worth imitating beside the positives (LD, arXiv 2102.12252)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.modeling.dense.assigner import assign_anchors, find_candidates
from distill.ops.boxes import aligned_overlap

__all__ = ["valuable_region"]


@torch.no_grad()
def valuable_region(
    anchors: Sequence[Tensor],
    boxes: Tensor,
    valid: Tensor,
    topk: int = 9,
    fraction: float = 0.25,
) -> Tensor:
    """The anchors of LD's valuable localization region.

    An anchor is in it if its DIoU with some object is below the object's threshold of the
    assignment (which is one of IoUs), but at least a fraction of that; it need not be a candidate,
    nor lie inside the object. It counts as much as its IoU with that object, the best of them. The
    authors' code keeps positives in it whose DIoU is below the threshold, though they are distilled
    already; leaving them out is ours. An object without area has no region.

    Args:
        anchors: (R_l, 4) corners in pixels for each level, R in all.
        boxes: (N, G, 4) corners of the objects in pixels, padded to G >= 1 an image.
        valid: (N, G) bool, False where padded.
        topk: candidates a level of the assignment.
        fraction: of the threshold, from which the region begins.

    Returns:
        (N, R) float32 weights in [0, 1], 0 outside of the region.
    """
    threshold = find_candidates(anchors, boxes, topk).threshold[..., None]
    _, positive = assign_anchors(anchors, boxes, valid, topk)
    regions = []
    # One level at a time, as every object is compared with every anchor.
    for level in anchors:
        overlap = aligned_overlap(level, boxes[:, :, None], "diou")
        inside = (overlap >= fraction * threshold) & (overlap < threshold) & valid[..., None]
        weight = aligned_overlap(level, boxes[:, :, None], "iou") * inside
        regions.append(weight.amax(dim=1))
    return torch.cat(regions, dim=1) * ~positive

"""Which anchors stand for which objects, for a whole batch at once.

Letters: N images, R anchors, G objects an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

__all__ = ["box_deltas", "match_anchors"]


def match_anchors(
    anchors: Tensor, boxes: Tensor, valid: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Gives every anchor an object: SSD's matching (arXiv 1512.02325).

    An anchor is positive if it is the best of some object, or if its IoU with one is above the
    threshold. It stands for the object whose best anchor it is, else for the one it overlaps most.
    Among several the higher IoU counts, then the first object; of equally good anchors of one
    object the first is the best. An object that overlaps no anchor, such as one without area, gets
    none.

    Args:
        anchors: (R, 4) corners in pixels.
        boxes: (N, G, 4) corners of the objects in pixels, padded to G >= 1 an image.
        valid: (N, G) bool, False where padded.
        threshold: IoU.

    Returns:
        (N, R) index of each anchor's object, meaningless where it is not positive, and (N, R) bool,
        whether it is.
    """
    iou = pairwise_iou(Boxes(boxes.reshape(-1, 4)), Boxes(anchors))
    iou = iou.view(*valid.shape, len(anchors)).masked_fill(~valid[..., None], -1.0)
    best, best_anchor = iou.max(dim=2, keepdim=True)
    # Beyond any IoU, so that the best anchors win over all others.
    iou = iou.scatter(2, best_anchor, torch.where(best > 0, best + 2, best))
    overlap, index = iou.max(dim=1)
    return index, overlap > threshold


def box_deltas(anchors: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """What Detectron2's ``Box2BoxTransform.get_deltas`` computes, without waiting for the device.

    Args:
        anchors: (..., 4) corners, with area.
        boxes: (..., 4) corners, with area.
        weights: of (dx, dy, dw, dh).

    Returns:
        (..., 4) weighted (dx, dy, dw, dh).
    """
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    size = boxes[..., 2:] - boxes[..., :2]
    shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2
    deltas = torch.cat([shift / anchor_size, torch.log(size / anchor_size)], dim=-1)
    return deltas * deltas.new_tensor(weights)

"""Adaptive training sample selection (ATSS, arXiv 1912.02424), for a whole batch at once.

Letters: N images, R anchors of all levels (R_l of one), G objects an image, C candidates an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.ops.boxes import aligned_overlap, box_centers, side_distances

__all__ = ["Candidates", "assign_anchors", "find_candidates"]

# Pixels by which an anchor's center must lie inside a box, as in the authors' code.
_MARGIN = 0.01


@dataclass(frozen=True)
class Candidates:
    """The anchors that may become positive for each of G objects an image, C for each.

    Attributes:
        index: (N, G, C) places of the anchors among all R.
        iou: (N, G, C) their IoU with the object.
        threshold: (N, G) mean of these IoUs plus their sample standard deviation.
    """

    index: Tensor
    iou: Tensor
    threshold: Tensor


def find_candidates(anchors: Sequence[Tensor], boxes: Tensor, topk: int = 9) -> Candidates:
    """Finds the anchors of each level whose centers are nearest to an object's center.

    Of equally near ones any may be taken. A level with fewer than `topk` anchors gives all it has,
    also none. If there is a single candidate in all, its IoU is the threshold.

    Args:
        anchors: (R_l, 4) corners in pixels for each level, with area.
        boxes: (N, G, 4) corners of the objects in pixels.
        topk: candidates a level.
    """
    points = box_centers(boxes)
    index, start = [], 0
    for level in anchors:
        # The mode that computes every distance for itself: the other one rounds ties apart.
        distance = torch.cdist(
            points,
            box_centers(level).expand(len(points), -1, -1),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        nearest = distance.topk(min(topk, len(level)), dim=2, largest=False, sorted=False)
        index.append(nearest.indices + start)
        start += len(level)
    index = torch.cat(index, dim=2)
    iou = aligned_overlap(torch.cat(list(anchors))[index], boxes[:, :, None], "iou")
    std, mean = torch.std_mean(iou, dim=2, correction=min(1, index.shape[2] - 1))
    return Candidates(index, iou, mean + std)


def assign_anchors(
    anchors: Sequence[Tensor], boxes: Tensor, valid: Tensor, topk: int = 9
) -> tuple[Tensor, Tensor]:
    """Gives anchors to objects.

    An object's positive anchors are those of its candidates whose IoU with it reaches its
    threshold and whose center lies inside it. An anchor that several objects claim goes to the one
    it overlaps most, among equals to the first. An object may get none; one without area never
    gets any.

    Args:
        anchors: (R_l, 4) corners in pixels for each level, R in all.
        boxes: (N, G, 4) corners of the objects in pixels, padded to G >= 1 an image.
        valid: (N, G) bool, False where padded.
        topk: candidates a level, see :func:`find_candidates`.

    Returns:
        (N, R) index of each anchor's object, 0 where it has none, and (N, R) bool, whether it has
        one.
    """
    table = torch.cat(list(anchors))
    candidates = find_candidates(anchors, boxes, topk)
    sides = side_distances(box_centers(table)[candidates.index], boxes[:, :, None])
    positive = (candidates.iou >= candidates.threshold[..., None]) & (sides.amin(-1) > _MARGIN)
    positive = (positive & valid[..., None]).flatten(1)
    places = candidates.index.flatten(1)
    number, count = boxes.shape[:2]
    claim = torch.where(positive, candidates.iou.flatten(1), -1.0)
    best = claim.new_full((number, len(table)), -1.0).scatter_reduce(1, places, claim, "amax")
    wins = positive & (claim == best.gather(1, places))
    objects = torch.arange(count, device=boxes.device)[:, None].expand_as(candidates.index)
    owner = places.new_full((number, len(table)), count).scatter_reduce(
        1, places, torch.where(wins, objects.flatten(1), count), "amin"
    )
    assigned = owner < count
    return owner.masked_fill(~assigned, 0), assigned

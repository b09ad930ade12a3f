"""Fuses what several teachers found of the same class in the same image.

Every function takes boxes in the order of :func:`by_class` and treats each class of each image by
itself. Ties go to the earlier box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torchvision.ops import batched_nms

from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.overlap import box_iou, overlaps

__all__ = ["Fused", "by_class", "nms", "soft_nms", "weighted_boxes"]

# torchvision shifts the groups of up to 1000 boxes apart and compares all at once; it loops over
# the groups of more.
_NMS_BOXES = 1000
# Of soft-NMS, as in its paper: a score falls by exp(-IoU^2 / sigma).
_SIGMA = 0.5
# Places in the padded tables of groups x boxes.
_CELLS = 1 << 18


@dataclass(frozen=True)
class Fused:
    """Boxes after fusion.

    Attributes:
        labels: B fused boxes, without teacher.
        member: for each of the boxes before fusion the fused one that it became or supports, or
            -1; int64.
    """

    labels: PseudoLabels
    member: np.ndarray

    def united(self, bits: np.ndarray) -> np.ndarray:
        """Bits (B,) int64 that the members of each fused box have, by those of every box before."""
        result = np.zeros(len(self.labels), dtype=np.int64)
        inside = self.member >= 0
        np.bitwise_or.at(result, self.member[inside], bits[inside])
        return result

    def select(self, index: np.ndarray) -> Fused:
        """Some of the fused boxes, by places; each once."""
        place = np.full(len(self.labels) + 1, -1)
        place[index] = np.arange(len(index))
        return Fused(self.labels.select(index), place[self.member])


def by_class(labels: PseudoLabels) -> np.ndarray:
    """The order by image, class and falling score; (B,) places. Ties stay as they are."""
    return np.lexsort((-labels.scores, labels.classes, labels.image))


def nms(labels: PseudoLabels, iou: float) -> Fused:
    """Keeps of boxes that overlap those of the highest scores.

    Args:
        labels: the boxes.
        iou: the highest IoU of boxes that are both kept.

    Returns:
        The boxes that are kept; their members are those that they suppressed, too.
    """
    groups, starts = _groups(labels)
    kept = [np.zeros(0, np.int64)]
    begin = 0
    while begin < len(labels):
        # Whole groups only: as many as fit, at least one.
        first_end = starts[np.searchsorted(starts, begin, side="right")]
        last_end = starts[np.searchsorted(starts, begin + _NMS_BOXES, side="right") - 1]
        end = int(max(first_end, last_end))
        block = slice(begin, end)
        # Falling numbers for scores: no two are equal.
        rank = torch.arange(end - begin, 0, -1, dtype=torch.float64)
        # The shift of the groups needs coordinates from 0 on.
        boxes = torch.from_numpy(labels.boxes[block] - labels.boxes[block].min())
        keep = batched_nms(boxes, rank, torch.from_numpy(groups[block] - groups[begin]), iou)
        kept.append(np.sort(keep.numpy()) + begin)
        begin = end
    index = np.concatenate(kept)
    member = np.full(len(labels), -1)
    boxes = labels.boxes
    box, keeper = overlaps(groups, boxes, groups[index], boxes[index], iou)
    # The keepers of a box come by falling score: its first is the one that suppressed it.
    box, first = np.unique(box, return_index=True)
    member[box] = keeper[first]
    member[index] = np.arange(len(index))
    return Fused(replace(labels.select(index), teacher=None), member)


def weighted_boxes(labels: PseudoLabels, iou: float, voters: np.ndarray) -> Fused:
    """Weighted box fusion (arXiv 1910.13302).

    By falling score each box joins the fused box that it overlaps most, or begins a new one. A
    fused box is the mean of its members, weighted by their scores. Its score is their mean score,
    times the share of the teachers that found it, among those that know its class.

    Args:
        labels: the boxes of scores above 0, with their teachers.
        iou: a box joins where its IoU is higher.
        voters: (K,) number of the teachers that know each class.
    """
    _, starts = _groups(labels)
    slot = np.zeros(len(labels), dtype=np.int64)
    total = np.zeros((len(labels), 5))
    for begins, sizes in _tables(starts, len(labels)):
        _cluster(labels, begins, sizes, iou, slot, total)
    # A group's fused boxes take the places of as many of its boxes.
    place, member = np.unique(slot, return_inverse=True)
    count = np.bincount(member, minlength=len(place))
    pairs = np.unique(np.stack([member, labels.teacher]), axis=1)
    found_by = np.bincount(pairs[0], minlength=len(place))
    total = total[place]
    share = found_by / voters[labels.classes[place]]
    boxes, scores = total[:, :4] / total[:, 4:], total[:, 4] / count * share
    return Fused(
        PseudoLabels(labels.image[place], boxes, scores, labels.classes[place]), member.reshape(-1)
    )


def soft_nms(labels: PseudoLabels) -> Fused:
    """Lowers the scores of boxes that overlap better ones (Gaussian soft-NMS, arXiv 1704.04503).

    Args:
        labels: the boxes.

    Returns:
        All boxes.
    """
    _, starts = _groups(labels)
    scores = np.zeros(len(labels))
    for begins, sizes in _tables(starts, len(labels)):
        _decay(labels, begins, sizes, scores)
    result = replace(labels, scores=scores, teacher=None)
    return Fused(result, np.arange(len(labels)))


def _groups(labels: PseudoLabels) -> tuple[np.ndarray, np.ndarray]:
    """The number of each box' group, ascending, and where each group starts."""
    new = np.ones(len(labels), dtype=bool)
    new[1:] = (np.diff(labels.image) != 0) | (np.diff(labels.classes) != 0)
    return np.cumsum(new) - 1, np.append(np.flatnonzero(new), len(labels))


def _tables(starts: np.ndarray, boxes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Starts and sizes of groups, the largest first, as many at once as fit a padded table."""
    sizes = np.diff(starts)
    order = np.argsort(-sizes, kind="stable")
    begin = 0
    while begin < len(order):
        rows = order[begin : begin + max(1, _CELLS // sizes[order[begin]])]
        yield starts[rows], sizes[rows]
        begin += len(rows)


def _cluster(
    labels: PseudoLabels,
    begins: np.ndarray,
    sizes: np.ndarray,
    iou: float,
    slot: np.ndarray,
    total: np.ndarray,
) -> None:
    """Writes each box' fused box, and what the fused ones sum: score times box, and score."""
    means = np.zeros((len(begins), sizes[0], 4))
    used = np.zeros(len(begins), dtype=np.int64)
    for step in range(sizes[0]):
        # All groups at once, each with its next box; those with boxes left come first.
        active = np.searchsorted(-sizes, -step, side="left")
        rows, boxes = np.arange(active), begins[:active] + step
        # Places without a fused box yet are empty and overlap nothing.
        shared = box_iou(labels.boxes[boxes, None], means[:active, : max(step, 1)])
        best = shared.argmax(axis=1)
        joins = shared[rows, best] > iou
        best = np.where(joins, best, used[:active])
        used[:active] += ~joins
        target = begins[:active] + best
        score = labels.scores[boxes, None]
        total[target] += np.hstack([labels.boxes[boxes] * score, score])
        means[rows, best] = total[target, :4] / total[target, 4:]
        slot[boxes] = target


def _decay(labels: PseudoLabels, begins: np.ndarray, sizes: np.ndarray, scores: np.ndarray) -> None:
    """Writes each box' lowered score."""
    column = np.arange(sizes[0])
    inside = column < sizes[:, None]
    place = np.where(inside, begins[:, None] + column, begins[:, None])
    boxes = labels.boxes[place]
    left = np.where(inside, labels.scores[place], -np.inf)
    for step in range(sizes[0]):
        active = np.searchsorted(-sizes, -step, side="left")
        rows, best = np.arange(active), left[:active].argmax(axis=1)
        scores[place[rows, best]] = left[rows, best]
        shared = box_iou(boxes[rows, best][:, None], boxes[:active])
        left[:active] *= np.exp(-(shared**2) / _SIGMA)
        left[rows, best] = -np.inf

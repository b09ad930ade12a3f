"""The dense predictions of student and teacher at the same anchors, one level at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from distill.ops.boxes import box_centers
from distill.utils.config_keys import defines_keys
from distill.utils.distributed import mean_over_devices
from distill.views.dense import DenseLevel
from distill.views.heads import dense_head
from distill.views.student import StudentSignals, image_sizes
from distill.views.teacher import TeacherSignals

__all__ = ["LevelPair", "check_dense_pair", "count_positives", "pair_levels"]


@defines_keys
def _add_dense_keys(cfg: CfgNode) -> None:
    cfg.DISTILL.DENSE = CfgNode()
    # Leave out anchors whose center lies outside the image's true size, in the padding.
    cfg.DISTILL.DENSE.MASK_PADDING = True


@dataclass(frozen=True)
class LevelPair:
    """One level of both detectors, at the same R anchors of the same N images.

    Attributes:
        student: its predictions, with gradient.
        teacher: the teacher's, in the student's classes.
        valid: (N, R) bool, False where the student ignores an anchor, or outside the image.
        positive: (N, R) bool, where the student is to find an object; None for an RPN.
        size: height and width of the level in cells.
        select: cuts an (N, R') tensor over all of the student's anchors, level after level, to the
            (N, R) of this one.
    """

    student: DenseLevel
    teacher: DenseLevel
    valid: Tensor
    positive: Tensor | None
    size: tuple[int, int]
    select: Callable[[Tensor], Tensor]


def pair_levels(
    student: StudentSignals,
    teacher: TeacherSignals,
    *,
    head: str = "dense",
    mask_padding: bool = True,
) -> Iterator[LevelPair]:
    """Yields the levels from the finest to the coarsest; none is kept.

    Maps that differ in size, as the detectors pad images differently, are cropped to the cells
    that both have.

    Args:
        student: signals with "dense", or with "rpn".
        teacher: likewise.
        head: "dense" or "rpn".
        mask_padding: take anchors whose center lies outside the image's true size as invalid.
    """
    mine, other = student.dense(head), teacher.dense(head)
    labels = student.anchor_labels if head == "dense" else None
    images = torch.tensor(image_sizes(student.batched_inputs), dtype=torch.float32)
    images = images.to(student.model.device, non_blocking=True)
    counts = [a * h * w for a, (h, w) in zip(mine.num_anchors, mine.sizes, strict=True)]
    for index, (own, theirs) in enumerate(zip(mine.sizes, other.sizes, strict=True)):
        size = (min(own[0], theirs[0]), min(own[1], theirs[1]))
        select = partial(
            _select, start=sum(counts[:index]), count=counts[index], own=own, size=size
        )
        level = mine.level(index, size)
        valid = torch.ones(level.logits.shape[:2], dtype=torch.bool, device=level.logits.device)
        positive = None
        if labels is not None:
            part = select(labels)
            valid = part >= 0
            positive = valid & (part < student.model.num_classes)
        if mask_padding:
            valid = valid & _inside(level.anchors, images)
        yield LevelPair(level, other.level(index, size), valid, positive, size, select)


def _select(
    values: Tensor, *, start: int, count: int, own: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """(N, R) of a level of `own` cells, cropped to `size`, out of (N, R') of all levels."""
    cells = max(1, own[0] * own[1])
    maps = values[:, start : start + count].unflatten(1, (*own, count // cells))
    return maps[:, : size[0], : size[1]].flatten(1)


def _inside(anchors: Tensor, sizes: Tensor) -> Tensor:
    """(N, R) bool: whether the anchors' centers (R, 4) lie in images of (N, 2) height and width."""
    x, y = box_centers(anchors).unbind(1)
    return (x < sizes[:, 1:]) & (y < sizes[:, :1])


def count_positives(student: StudentSignals) -> Tensor:
    """How many anchors the student is to find an object at, at least 1; mean over the ranks."""
    labels = student.anchor_labels
    count = ((labels >= 0) & (labels < student.model.num_classes)).sum()
    return mean_over_devices(count)


def check_dense_pair(student: nn.Module, teacher: nn.Module, head: str = "dense") -> None:
    """Refuses detectors whose dense predictions stand for different places.

    Detectors of one anchor per cell may be of any families, as boxes are compared once decoded;
    where a cell has several anchors, they must be the same.

    Args:
        student: the student.
        teacher: the teacher.
        head: "dense" or "rpn".

    Raises:
        ValueError: one sentence that names the config keys to change.
    """
    own, other = (dense_head(m, head).anchor_generator for m in (student, teacher))
    strides = [[int(s) for s in x.strides] for x in (own, other)]
    if strides[0] != strides[1]:
        raise ValueError(
            f"the student's head has levels of strides {strides[0]}, the teacher's of "
            f"{strides[1]}; give both the same levels (IN_FEATURES of their heads and "
            "MODEL.FPN.IN_FEATURES)"
        )
    counts = [list(x.num_anchors) for x in (own, other)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"the student has {counts[0]} anchors a cell by level, the teacher {counts[1]}; give "
            "both the same MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS"
        )
    if own.offset != other.offset:
        raise ValueError(
            f"the student's anchors are centered {own.offset} cells from a cell's corner, the "
            f"teacher's {other.offset}; set MODEL.ANCHOR_GENERATOR.OFFSET alike (FCOS has 0.5)"
        )
    for stride, mine, theirs in zip(strides[0], own.cell_anchors, other.cell_anchors, strict=True):
        if len(mine) > 1 and not torch.allclose(mine.cpu(), theirs.cpu(), atol=1e-3):
            raise ValueError(
                f"the anchors of student and teacher at stride {stride} differ; with several in a "
                "cell, give both the same MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS"
            )

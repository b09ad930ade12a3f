"""Which feature level of the student corresponds to which of the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import Tensor

from distill.utils.wording import did_you_mean

__all__ = ["Level", "assign_levels", "common_region", "match_levels"]


@dataclass(frozen=True)
class Level:
    """A pair of feature levels with the same stride.

    Attributes:
        student: name of the student's level.
        teacher: name of the teacher's level.
        stride: pixels per cell of both.
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
    """

    student: str
    teacher: str
    stride: int
    student_channels: int
    teacher_channels: int


def match_levels(
    student: Mapping[str, ShapeSpec],
    teacher: Mapping[str, ShapeSpec],
    wanted: Sequence[str] = (),
) -> tuple[Level, ...]:
    """Pairs the levels by stride, preferring equal names where several have the same stride.

    Args:
        student: `output_shape()` of the student's backbone.
        teacher: `output_shape()` of the teacher's backbone.
        wanted: names of the student's levels to keep (DISTILL.LEVELS); empty keeps all pairs.

    Returns:
        The pairs, from the finest stride to the coarsest.

    Raises:
        ValueError: if a wanted level does not exist or has no partner, or if nothing matches.
    """
    unknown = [name for name in wanted if name not in student]
    if unknown:
        raise ValueError(
            f"DISTILL.LEVELS names {', '.join(unknown)}, but the student's backbone has only "
            f"{_describe(student)}{did_you_mean(unknown[0], student) or '; change DISTILL.LEVELS'}"
        )
    levels = []
    for name, shape in student.items():
        if wanted and name not in wanted:
            continue
        partners = [other for other, spec in teacher.items() if spec.stride == shape.stride]
        if partners:
            partner = name if name in partners else partners[0]
            levels.append(
                Level(name, partner, shape.stride, shape.channels, teacher[partner].channels)
            )
        elif wanted:
            raise ValueError(
                f"level {name} of the student (stride {shape.stride}) has no partner in the "
                f"teacher, which has {_describe(teacher)}; change DISTILL.LEVELS or the teacher"
            )
    if not levels:
        raise ValueError(
            f"no stride is common to the student's levels ({_describe(student)}) and the "
            f"teacher's ({_describe(teacher)}); give both the same FPN levels "
            "(MODEL.FPN.IN_FEATURES) or take another teacher"
        )
    return tuple(sorted(levels, key=lambda level: level.stride))


def assign_levels(boxes: Tensor, levels: Sequence[Level], canonical_box_size: int) -> Tensor:
    """The level of each box by its area, as Detectron2's ROI pooler chooses it.

    Args:
        boxes: (N, P, 4) corners in pixels.
        levels: levels from the finest to the coarsest.
        canonical_box_size: square root of the box area, in pixels, that belongs on stride 16.

    Returns:
        (N, P) index into the levels. Where these leave a stride out, its boxes go to the next
        coarser one.
    """
    # Stride 16 is level 4 in Detectron2; log2 of the stride is the level.
    exponents = [level.stride.bit_length() - 1 for level in levels]
    wanted = assign_boxes_to_levels(
        [Boxes(boxes.flatten(0, 1))], exponents[0], exponents[-1], canonical_box_size, 4
    )
    edges = torch.tensor(exponents).to(boxes.device, non_blocking=True)
    return torch.bucketize(wanted + exponents[0], edges).view(boxes.shape[:2])


def common_region(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Crops two maps of one stride to the cells both have: they differ by padding only.

    Detectron2 pads images at the right and the bottom, so equal indices mean equal places.

    Args:
        student: (N, C, H, W) map.
        teacher: (N, D, H', W') map.

    Returns:
        Views of (N, C, h, w) and (N, D, h, w), with h = min(H, H') and w = min(W, W').
    """
    height = min(student.shape[-2], teacher.shape[-2])
    width = min(student.shape[-1], teacher.shape[-1])
    return student[..., :height, :width], teacher[..., :height, :width]


def _describe(shapes: Mapping[str, ShapeSpec]) -> str:
    return ", ".join(f"{name} at stride {spec.stride}" for name, spec in shapes.items())

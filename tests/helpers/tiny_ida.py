"""Pairs of detectors under IDaDet, and signals made by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from distill import Distiller
from distill.methods import IDaDet, MethodOutput
from distill.methods.ida_det.selector import ProposalSelector
from distill.methods.schedule import Schedule
from distill.views.levels import Level, match_levels
from distill.views.proposals import Proposals
from distill.views.teacher import FrozenTeacher
from helpers import tiny


@dataclass
class Shown:
    """What a detector shows of a batch."""

    features: dict[str, Tensor]
    proposed: Proposals

    def proposals(self, topk: int) -> Proposals:
        return self.proposed


def levels_of(*strides: int, channels: tuple[int, int] = (4, 4)) -> tuple[Level, ...]:
    return tuple(Level(f"s{s}", f"s{s}", s, *channels) for s in strides)


LEVELS = levels_of(4, 8)


def maps_at_random(
    images: int, size: tuple[int, int], *strides: int, channels: int = 4
) -> dict[str, Tensor]:
    """Maps of noise of images of a size in pixels."""
    return {f"s{s}": torch.randn(images, channels, size[0] // s, size[1] // s) for s in strides}


def proposals_of(
    boxes: Sequence[Sequence[Sequence[float]]], objectness: Sequence[Sequence[float]] | None = None
) -> Proposals:
    """Proposals of each image; their objectness falls unless it is given."""
    tables = [torch.tensor(x).view(-1, 4).float() for x in boxes]
    scores = objectness or [[1 / (2 + i) for i in range(len(x))] for x in tables]
    valid = [torch.ones(len(x), dtype=torch.bool) for x in tables]
    rows = [tables, [torch.tensor(x).float() for x in scores], valid]
    return Proposals(*(pad_sequence(x, batch_first=True) for x in rows))


def proposals_at_random(images: int, count: int, size: tuple[int, int]) -> Proposals:
    """Boxes within images of a size in pixels."""
    limits = torch.tensor([size[1], size[0]]).float()
    corners = torch.rand(images, count, 2, 2) * limits
    boxes = torch.cat([corners.amin(2), corners.amax(2)], dim=-1)
    valid = torch.ones(images, count, dtype=torch.bool)
    return Proposals(boxes, torch.rand(images, count), valid)


def noise(
    images: int = 2, count: int = 6, size: tuple[int, int] = (64, 112), channels: int = 4
) -> tuple[Shown, Shown]:
    """Both detectors' maps and proposals at random."""
    return tuple(
        Shown(
            maps_at_random(images, size, 4, 8, channels=channels),
            proposals_at_random(images, count, size),
        )
        for _ in range(2)
    )


def ida(levels: tuple[Level, ...], **arguments: Any) -> IDaDet:
    """The method from its arguments and its selector's."""
    fields = ProposalSelector.__dataclass_fields__.keys() & arguments.keys()
    selector = selector_of(**{name: arguments.pop(name) for name in fields})
    return IDaDet.with_defaults(levels, schedule=Schedule(), selector=selector, **arguments)


def selector_of(**fields: Any) -> ProposalSelector:
    """The selector with the default of every field but those that are given."""
    selector = IDaDet.from_config(tiny.rcnn_cfg(), LEVELS)["selector"]
    return dataclasses.replace(selector, **fields)


def output_of(
    student: Shown, teacher: Shown, levels: tuple[Level, ...] | None = None, **arguments: Any
) -> MethodOutput:
    """What the plainest method makes of signals: all losses with weight 1, no adapters."""
    arguments = {"weight": 1.0, "loss": "l2", "adapter": "none", **arguments}
    return ida(LEVELS if levels is None else levels, **arguments)(student, teacher)


def loss_of(student: Shown, teacher: Shown, **arguments: Any) -> Tensor:
    return output_of(student, teacher, **arguments).losses["loss_idadet"]


def ida_pair(
    student: nn.Module,
    teacher: nn.Module,
    *,
    log_period: int = 20,
    vis_period: int = 0,
    **arguments: Any,
) -> Distiller:
    """A Distiller of two detectors with IDaDet, without any config."""
    levels = match_levels(student.backbone.output_shape(), teacher.backbone.output_shape())
    return Distiller(
        student=student,
        teacher=FrozenTeacher(teacher),
        methods=[ida(levels, **arguments)],
        log_period=log_period,
        vis_period=vis_period,
    ).train()


def default_pair(**arguments: Any) -> Distiller:
    """A Faster R-CNN under a wider one."""
    student = tiny.build(tiny.rcnn_cfg(), 0)
    return ida_pair(student, tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1), **arguments)


def unequal_batch() -> list[dict[str, Any]]:
    """Two images of other sizes, neither square nor multiples of the padding."""
    return [
        tiny.example([[8, 8, 40, 48]], (50, 90), seed=0),
        tiny.example([[4, 20, 30, 60], [2, 4, 36, 34]], (64, 40), seed=1),
    ]

"""What IDaDet asks of the device: as many operations whatever the batch, and no value back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.tiny_ida import LEVELS, Shown, ida, noise, proposals_of
from torch.utils._python_dispatch import TorchDispatchMode

from distill.views.levels import match_levels
from distill.views.proposals import Proposals
from distill.views.student import StudentSignals

LOSSES = ("entropy", "l2", "cosine", "inner_product")
SELECTIONS = ("discrepancy", "random", "all", "objectness", "everywhere")


class Operations(TorchDispatchMode):
    """Counts what is sent to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts.update([str(func)])
        return func(*args, **(kwargs or {}))


def operations(images: int, count: int, **arguments: Any) -> Counter:
    signals = noise(images, count)
    method = ida(LEVELS, **arguments)
    with Operations() as mode:
        method(*signals).losses["loss_idadet"].backward()
    return mode.counts


OPTIONS = [
    *({"selection": x} for x in SELECTIONS),
    *({"loss": x} for x in LOSSES),
    {"support": "mask"},
    {"pool_levels": "assigned"},
    {"compare": "adapted"},
    {"objectness_threshold": 0.5},
    {"nms_threshold": 0.5, "joint_nms_threshold": 0.5},
]


@pytest.mark.parametrize("arguments", OPTIONS, ids=str)
def test_more_images_and_more_proposals_are_not_more_operations(arguments: dict) -> None:
    # Suppression takes as many rounds as there are boxes, up to a limit.
    few, many = (40, 90) if "nms_threshold" in arguments else (10, 40)
    # One image would not do: its maps are laid out by cell without a copy.
    expected = operations(2, few, **arguments)
    assert expected.total() > 10
    assert operations(5, few, **arguments) == expected
    assert operations(2, many, **arguments) == expected


@pytest.mark.parametrize("arguments", OPTIONS, ids=str)
def test_nothing_is_read_back_from_the_device(arguments: dict) -> None:
    # On this device tensors have no values: asking for one raises.
    signals = [
        Shown(
            {k: x.to("meta").requires_grad_() for k, x in shown.features.items()},
            Proposals(
                *(getattr(shown.proposed, k).to("meta") for k in ("boxes", "objectness", "valid"))
            ),
        )
        for shown in noise()
    ]
    output = ida(LEVELS, **arguments).to("meta")(*signals)
    assert output.losses["loss_idadet"].device.type == "meta"
    output.losses["loss_idadet"].backward()
    with pytest.raises(RuntimeError):
        output.losses["loss_idadet"].item()


def test_cells_near_objects_are_found_without_reading_from_the_device() -> None:
    student = tiny.build(tiny.rcnn_cfg())
    features = student.backbone(torch.rand(2, 3, 64, 64))
    # On this device tensors have no values: asking for one raises.
    maps = {k: x.detach().to("meta").requires_grad_() for k, x in features.items()}
    seen = StudentSignals(student.to("meta"), tiny.batch(), maps)
    levels = match_levels(student.backbone.output_shape(), student.backbone.output_shape())
    method = ida(levels, selection="ground_truth").to("meta")
    output = method(seen, Shown(maps, proposals_of([[], []])))
    output.losses["loss_idadet"].backward()
    assert maps["p2"].grad.device.type == "meta"

"""Detectors and batches with regions to ignore."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from distill.modeling.ignored_regions import add_ignored_regions
from helpers import tiny, tiny_dense

K = tiny.NUM_CLASSES
# The upper half, with objects in it.
REGION = [0.0, 0.0, 64.0, 36.0]


def fcos(seed: int = 0) -> nn.Module:
    return tiny_dense.lively(
        tiny.build(
            tiny.rcnn_cfg(
                MODEL__META_ARCHITECTURE="ConfigurableFCOS",
                MODEL__FCOS__IN_FEATURES=("p2", "p3", "p4"),
                MODEL__FCOS__NUM_CLASSES=K,
                MODEL__FCOS__NORM="BN",
            ),
            seed,
        )
    )


def rcnn(seed: int = 0) -> nn.Module:
    return tiny.build(tiny.rcnn_cfg(), seed)


def c4(seed: int = 0) -> nn.Module:
    return tiny.build(tiny.c4_cfg(), seed)


def cascade(seed: int = 0) -> nn.Module:
    return tiny.build(
        tiny.rcnn_cfg(
            MODEL__ROI_HEADS__NAME="CascadeROIHeads",
            MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True,
            MODEL__ROI_BOX_CASCADE_HEAD__IOUS=(0.2, 0.3, 0.4),
        ),
        seed,
    )


DENSE: dict[str, Callable[..., nn.Module]] = {
    **{name: make for name, make in tiny_dense.DENSE.items() if name != "one_anchor"},
    "configurable_fcos": fcos,
}
TWO_STAGE = {"fpn": rcnn, "c4": c4, "cascade": cascade}


def with_regions(inputs: list[dict], *regions: list[list[float]]) -> list[dict]:
    return [
        {**x, "ignore_boxes": torch.tensor(boxes).reshape(-1, 4)}
        for x, boxes in zip(inputs, regions, strict=True)
    ]


def half_ignored() -> list[dict]:
    """An image with a region and one without."""
    return with_regions(tiny.batch(), [REGION], [])


def ignoring(make: Callable[..., nn.Module]) -> nn.Module:
    model = make().train()
    add_ignored_regions(model)
    return model


def spy(owner: nn.Module, name: str) -> list[tuple[tuple, Any]]:
    """Arguments and results of a method's calls from now on."""
    calls = []

    def watched(method: Callable, *args: Any) -> Any:
        calls.append((args, method(*args)))
        return calls[-1][1]

    setattr(owner, name, functools.partial(watched, getattr(owner, name)))
    return calls


def inside_region(boxes: Tensor) -> Tensor:
    """By hand: whether the centers are above y = 36 in an image of 64 pixels."""
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    return (y < 36) & (y >= 0) & (x >= 0) & (x < 64)


def background_inside(instances: Any) -> int:
    inside = inside_region(instances.proposal_boxes.tensor)
    return int((inside & (instances.gt_classes == K)).sum())

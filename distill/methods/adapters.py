"""Trainable layers that bring the student's feature maps to the teacher's channels."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from distill.views.levels import Level

__all__ = ["build_adapters"]

_KERNELS = {"conv3x3": 3, "conv1x1": 1}


def build_adapters(
    kind: str, levels: Iterable[Level], key: str, std: float = 1e-4
) -> nn.ModuleDict:
    """One adapter a level, by the name of the student's level.

    Args:
        kind: "conv3x3", "conv1x1", or "none" for the maps as they are.
        levels: the matched levels.
        key: config key of the kind, for messages.
        std: standard deviation of the initial weights; biases start at 0.

    Raises:
        ValueError: if the kind is unknown, or is "none" though the channels differ.
    """
    if kind not in (*_KERNELS, "none"):
        raise ValueError(f'{key} is "{kind}"; choose one of {", ".join(_KERNELS)}, none')
    adapters = nn.ModuleDict()
    for level in levels:
        if kind == "none":
            if level.student_channels != level.teacher_channels:
                raise ValueError(
                    f'{key} is "none", but level {level.student} has {level.student_channels} '
                    f"channels in the student and {level.teacher_channels} in the teacher; "
                    "choose conv1x1 or conv3x3"
                )
            adapters[level.student] = nn.Identity()
            continue
        size = _KERNELS[kind]
        layer = nn.Conv2d(level.student_channels, level.teacher_channels, size, padding=size // 2)
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
        adapters[level.student] = layer
    return adapters

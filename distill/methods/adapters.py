"""Trainable layers that bring the student's feature maps to the teacher's channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from torch import Tensor, nn

from distill.views.levels import Level

__all__ = ["ADAPTERS", "Initialize", "build_adapters", "near_zero", "variance_preserving"]

Initialize = Callable[[Tensor], object]
"""Fills the weights of an adapter, in place."""

near_zero: Initialize = partial(nn.init.normal_, std=1e-4)
"""N(0, 1e-4): adapted maps are nearly 0 at first, and the loss is the square of the teacher's."""

variance_preserving: Initialize = partial(nn.init.kaiming_normal_, nonlinearity="linear")
"""N(0, 1 / fan-in): values keep their scale, for losses that divide by the student's deviation."""

_KERNELS = {"conv3x3": 3, "conv1x1": 1}

ADAPTERS = (*_KERNELS, "none")
"""What `build_adapters` can build, and ADAPTER of a method may be."""


def build_adapters(
    kind: str, levels: Iterable[Level], key: str, initialize: Initialize, *, always: bool
) -> nn.ModuleDict:
    """One adapter a level, by the name of the student's level.

    Args:
        kind: "conv3x3", "conv1x1", or "none" for the maps as they are.
        levels: the matched levels.
        key: config key of the kind, for messages.
        initialize: fills the initial weights; biases start at 0. What suits one loss ruins
            another, so that every method says its own.
        always: whether levels of equal channels get a convolution too.

    Raises:
        ValueError: if the kind is unknown, or is "none" though the channels differ.
    """
    if kind not in ADAPTERS:
        raise ValueError(f'{key} is "{kind}"; choose one of {", ".join(ADAPTERS)}')
    adapters = nn.ModuleDict()
    for level in levels:
        equal = level.student_channels == level.teacher_channels
        if kind == "none" and not equal:
            raise ValueError(
                f'{key} is "none", but level {level.student} has {level.student_channels} '
                f"channels in the student and {level.teacher_channels} in the teacher; "
                "choose conv1x1 or conv3x3"
            )
        if kind == "none" or (equal and not always):
            adapters[level.student] = nn.Identity()
            continue
        size = _KERNELS[kind]
        layer = nn.Conv2d(level.student_channels, level.teacher_channels, size, padding=size // 2)
        initialize(layer.weight)
        nn.init.zeros_(layer.bias)
        adapters[level.student] = layer
    return adapters

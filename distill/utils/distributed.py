"""Numbers that all processes of a run share."""

from __future__ import annotations

from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor

__all__ = ["mean_over_devices"]


def mean_over_devices(value: Tensor) -> Tensor:
    """The mean of a tensor without gradient over all processes, at least 1: a normalizer."""
    total = differentiable_all_reduce(value.float())
    return (total / comm.get_world_size()).clamp(min=1)

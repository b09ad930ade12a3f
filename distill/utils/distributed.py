"""What all processes of a run share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor

__all__ = ["from_main_process", "mean_over_devices"]

T = TypeVar("T")


def mean_over_devices(value: Tensor) -> Tensor:
    """The mean of a tensor without gradient over all processes, at least 1: a normalizer."""
    total = differentiable_all_reduce(value.float())
    return (total / comm.get_world_size()).clamp(min=1)


def from_main_process(compute: Callable[[], T]) -> T:
    """What a function returns in the main process, in all of them; all have to call this.

    Args:
        compute: is called in the main process only; what it returns can be pickled.
    """
    return comm.all_gather(compute() if comm.is_main_process() else None)[0]

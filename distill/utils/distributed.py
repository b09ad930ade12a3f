"""What all processes of a run share."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

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

    Raises:
        Exception: what the function raised, in all processes: none waits for one that failed.
    """
    outcome: tuple[Any, Exception | None] = (None, None)
    if comm.is_main_process():
        try:
            outcome = (compute(), None)
        except Exception as error:
            if comm.get_world_size() == 1:
                raise
            outcome = (None, _portable(error))
    value, failure = comm.all_gather(outcome)[0]
    if failure is not None:
        raise failure
    return value


def _portable(error: Exception) -> Exception:
    """The error, or its text where other processes could not make it anew."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error

"""What all processes of a run share."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, TypeVar

from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, distributed

__all__ = ["ECHO_STATUS", "from_main_process", "is_echo", "mean_over_devices"]

# With which a process ends that failed because another one did.
ECHO_STATUS = 3
# What gloo's errors, plain RuntimeErrors, have in common.
_LOST = re.compile(r"gloo|Connection (closed|reset) by peer|Broken pipe|NCCL|ProcessGroup", re.I)

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


def is_echo(error: BaseException | None) -> bool:
    """Whether an error only says that another process of the run is gone, which knows why.

    Args:
        error: of this process; its causes are looked at too.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return False
    while error is not None:
        known = getattr(distributed, "DistError", ())
        if isinstance(error, known) or (
            isinstance(error, RuntimeError) and _LOST.search(str(error))
        ):
            return True
        error = error.__cause__
    return False

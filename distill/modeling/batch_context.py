"""What parts of a detector that see labels alone know of the batch they are trained on."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

__all__ = ["BatchContext", "extend", "pad_rows"]


class BatchContext(ABC):
    """Holds something of the batch while a detector's forward in training runs, and only then.

    A deep copy of the detector has a context of its own, and nothing of it is in a state_dict.
    """

    @abstractmethod
    def read(self, inputs: Sequence[dict[str, Any]], device: torch.device) -> None:
        """Notes what is needed of a batch in training.

        Args:
            inputs: the batch, in Detectron2's format.
            device: the detector's.
        """

    @abstractmethod
    def clear(self) -> None:
        """Forgets the batch."""

    def attach(self, detector: nn.Module) -> None:
        """Lets a detector's forward in training be noticed."""
        detector.register_forward_pre_hook(self._begin, with_kwargs=True)
        # Also where the forward fails, as nothing of a batch may be left to the next one.
        detector.register_forward_hook(self._end, always_call=True)

    @classmethod
    def is_attached(cls, detector: nn.Module) -> bool:
        """Whether a detector has a context of this class."""
        hooks = detector._forward_pre_hooks.values()
        return any(isinstance(getattr(hook, "__self__", None), cls) for hook in hooks)

    def _begin(self, detector: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if detector.training:
            self.read([*args, *kwargs.values()][0], detector.device)

    def _end(self, detector: nn.Module, args: tuple, output: Any) -> None:
        self.clear()


def extend(owner: nn.Module, name: str, method: Callable[..., Any], *arguments: Any) -> None:
    """Puts a function in the place of a module's method.

    A partial of bound methods follows deep copies of the module, which a closure would not.

    Args:
        owner: the module.
        name: of its method.
        method: is called with the method it replaces, `arguments`, and the call's own.
        arguments: see there.
    """
    setattr(owner, name, functools.partial(method, getattr(owner, name), *arguments))


def pad_rows(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """Tensors (B, ...) of N images as one (N, max B + 1, ...), zeros where padded.

    They are put together where they lie, usually in host memory, and copied once.
    """
    padded = pad_sequence(list(rows), batch_first=True)
    # One more place, so that images without boxes need no case of their own.
    padded = F.pad(padded, (0, 0) * (padded.dim() - 2) + (0, 1))
    return padded.to(device, non_blocking=True)

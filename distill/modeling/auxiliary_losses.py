"""Losses that layers have of their own, such as a quantizer's reconstruction term."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

__all__ = ["AuxiliaryLosses", "add_auxiliary_losses"]


class AuxiliaryLosses(ABC):
    """A layer with losses of its own; a base class beside torch's Module."""

    @abstractmethod
    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Scalars by name; those of the same name are summed over the layers of a detector."""


def add_auxiliary_losses(detector: nn.Module) -> None:
    """Lets a detector return its layers' own losses beside those it computes in training.

    A detector without such layers is left as it is; calling this again changes nothing.

    Args:
        detector: returns a dict of losses in training mode.
    """
    offered = any(isinstance(module, AuxiliaryLosses) for module in detector.modules())
    if offered and _add_losses not in detector._forward_hooks.values():
        detector.register_forward_hook(_add_losses)


def _add_losses(detector: nn.Module, inputs: Any, losses: Any) -> dict[str, Tensor] | None:
    if not detector.training:
        return None
    sums: dict[str, Tensor] = {}
    # The layers are looked up anew, so that a copy of the detector reads its own.
    for module in detector.modules():
        if isinstance(module, AuxiliaryLosses):
            for name, loss in module.auxiliary_losses().items():
                sums[name] = sums[name] + loss if name in sums else loss
    return {**losses, **sums} if sums else None

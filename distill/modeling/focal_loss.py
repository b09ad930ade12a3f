"""The focal loss of Detectron2's RetinaNet and FCOS, computed alike in every call.

Both call fvcore's scripted version. TorchScript runs a function as it is written in the first call
of a process, and optimizes it from then on: the loss stays the same, but its gradient is rounded
differently. A run that was resumed would so differ from one that was not. The function as it is
written equals the scripted one's first call bit for bit.
"""

from __future__ import annotations

from detectron2.modeling.meta_arch import fcos, retinanet
from fvcore.nn import sigmoid_focal_loss, sigmoid_focal_loss_jit

__all__ = ["use_plain_focal_loss", "use_scripted_focal_loss"]

_NAME = "sigmoid_focal_loss_jit"


def use_plain_focal_loss() -> None:
    """Lets RetinaNet and FCOS call the function that is scripted; ``import distill`` does so."""
    _replace(sigmoid_focal_loss_jit, sigmoid_focal_loss)


def use_scripted_focal_loss() -> None:
    """Undoes :func:`use_plain_focal_loss`; resuming is not exact then."""
    _replace(sigmoid_focal_loss, sigmoid_focal_loss_jit)


def _replace(old: object, new: object) -> None:
    for module in (retinanet, fcos):
        if getattr(module, _NAME, None) is old:
            setattr(module, _NAME, new)

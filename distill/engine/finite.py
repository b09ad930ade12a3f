"""What stops a step before the weights change: a loss or a gradient that is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill.distiller import Distiller

__all__ = ["check_gradients", "check_losses", "gradient_norm", "list_files"]

_SHOWN = 8


def gradient_norm(model: nn.Module) -> Tensor:
    """The norm of all gradients of a module, a float32 scalar that is not waited for.

    It is infinite or not a number where a gradient is, or where one is beyond 1e19.

    Args:
        model: after the backward pass.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:
        return next(model.parameters()).new_zeros((), dtype=torch.float32)
    return torch.stack([norm.float() for norm in torch._foreach_norm(gradients)]).norm()


def check_losses(
    model: nn.Module, names: Sequence[str], values: np.ndarray, iteration: int, files: Sequence[str]
) -> None:
    """Looks at the losses of all ranks; to be called by all of them, with the same values.

    Args:
        model: whose losses they are.
        names: of the terms.
        values: (ranks, terms).
        iteration: the running one.
        files: this rank's images.

    Raises:
        FloatingPointError: on all ranks, if a loss of any rank is not finite.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    files_by_rank = comm.all_gather(list(files))
    images = [name for rank in np.flatnonzero(~finite.all(axis=1)) for name in files_by_rank[rank]]
    bad = [
        f"{name} ({column[~np.isfinite(column)][0]})"
        for name, column in zip(names, values.T, strict=True)
        if not np.isfinite(column).all()
    ]
    raise FloatingPointError(
        f"{', '.join(bad)} is not finite at iteration {iteration} on the images "
        f"{list_files(images)}; the weights were not updated. {_advice(model, names, finite)}"
    )


def check_gradients(
    model: nn.Module, norms: np.ndarray, iteration: int, files: Sequence[str], scale: float = 1.0
) -> None:
    """Looks at the gradients, if a norm says so; to be called by all ranks, with the same norms.

    Args:
        model: whose gradients they are.
        norms: (ranks,) what :func:`gradient_norm` is on each.
        iteration: the running one.
        files: this rank's images.
        scale: of the gradients in float16. Above 1 they may overflow: then the gradient scaler
            skips the step and lowers the scale.

    Raises:
        FloatingPointError: on all ranks, if a gradient of any rank is not finite.
    """
    if np.isfinite(norms).all() or scale > 1:
        return
    own = [_shown(name, p.grad) for name, p in model.named_parameters() if _is_bad(p.grad)]
    bad_by_rank, files_by_rank = comm.all_gather(own), comm.all_gather(list(files))
    bad = list(dict.fromkeys(name for rank in bad_by_rank for name in rank))
    if not bad:  # Finite, but for the sum of their squares.
        return
    images = [name for rank in files_by_rank for name in rank]
    raise FloatingPointError(
        f"The gradient of {list_files(bad)} is not finite at iteration {iteration} though the "
        f"losses are, on the images {list_files(images)}; the weights were not updated. Look for "
        "an extreme exponent, temperature or weight among the methods' keys, or set "
        "SOLVER.AMP.ENABLED False if it is on."
    )


def list_files(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _is_bad(gradient: Tensor | None) -> bool:
    return gradient is not None and not bool(gradient.isfinite().all())


def _shown(name: str, gradient: Tensor) -> str:
    value = gradient[~gradient.isfinite()][0].item()
    return f"{name.removeprefix('module.').removeprefix('student.')} ({value})"


def _advice(model: nn.Module, names: Sequence[str], finite: np.ndarray) -> str:
    """Where to look, given which terms (ranks, terms) are finite."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    methods = inner.methods if isinstance(inner, Distiller) else ()
    prefixes = tuple(f"loss_{method.name.lower()}" for method in methods)
    bad = [name for name, column in zip(names, finite.T, strict=True) if not column.all()]
    if prefixes and all(name.startswith(prefixes) for name in bad):
        return (
            "The student's own losses are finite: check what the teacher predicts "
            "(DISTILL.TEACHER.WEIGHTS and PRECISION), or lower the method's weight."
        )
    return "Look at these images' annotations, or lower SOLVER.BASE_LR or the method's weight."

"""Binarization of activations and weights, with the gradients that let it be trained.

Sources: the polynomial gradient is Bi-Real Net's (arXiv 1808.00278), the scale mean|w| with a
clipped straight-through gradient ReActNet's (arXiv 2003.03488), the learned scale IDa-Det's (arXiv
2210.03477). The sign of 0 is +1 everywhere, so that every value fits in one bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["binarize_activation", "binarize_weight", "binary_sign", "mean_scale", "prelu"]


def binarize_activation(x: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """The sign of activations, +1 at zero.

    The gradient is that of a piecewise quadratic sign: 2 + 2x on [-1, 0), 2 - 2x on [0, 1), and 0
    elsewhere.

    Args:
        x: activations, (..., H, W) if there is padding.
        padding: rows above and below, and columns left and right, of zeros to add to ``x``; they
            become +1.

    Returns:
        -1 and +1 in the type of ``x``: (..., H + 2 rows, W + 2 columns).
    """
    if x.requires_grad and torch.is_grad_enabled():
        return _PolynomialSign.apply(x, padding)
    # Without a function of ours in the graph, so that it can be traced and exported.
    return _padded_sign(x, padding)


def binarize_weight(weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """Weights of two values per output channel, alpha * sign(w), with sign(0) = +1.

    The gradient passes sign straight through where |w| <= 1. Without ``scale``, alpha is mean|w|
    as a constant, and the gradient reaches w without alpha (as in ReActNet); with it,
    alpha = |scale| is a factor of that gradient and gets one itself, in which the sign of
    ``scale`` counts.

    Args:
        weight: (Cout, ...) latent real weights.
        scale: (Cout,) learned scales of any sign, or None.

    Returns:
        Tensor in the shape and type of ``weight``.
    """
    if scale is None:
        return _scaled_sign(weight, _per_channel(mean_scale(weight), weight))
    return _per_channel(scale.abs(), weight) * _scaled_sign(weight, weight.new_ones(()))


def binary_sign(x: Tensor) -> Tensor:
    """-1 where ``x`` is negative and +1 elsewhere, in its shape and type, without gradient."""
    # In place on floats: on a CPU several times as fast as masks and torch.where.
    return x.detach().clone().ge_(0).mul_(2).sub_(1)


def mean_scale(weight: Tensor) -> Tensor:
    """The mean of |w| per output channel, which brings alpha * sign(w) closest to w.

    Args:
        weight: (Cout, ...) latent real weights.

    Returns:
        (Cout,) non-negative scales, without gradient.
    """
    return weight.detach().abs().flatten(1).mean(1)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU per channel, equal to PyTorch's.

    Args:
        x: (N, C, H, W).
        slope: (C,) factors of negative values.

    Returns:
        (N, C, H, W).
    """
    slope = slope.to(x.dtype)
    # PyTorch's own gradient takes several times as long on a CPU, nearly as a convolution does.
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _PReLU.apply(x, slope)
    return F.prelu(x, slope)


class _PolynomialSign(torch.autograd.Function):
    """Sign of the padded input, with the gradient 2 - 2|x| on (-1, 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.padding = padding
        return _padded_sign(x, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        if any(ctx.padding):
            rows, columns = ctx.padding
            height, width = x.shape[-2:]
            gradient = gradient[..., rows : rows + height, columns : columns + width]
        # In place: these are passes over whole feature maps.
        return x.abs().mul_(-2).add_(2).clamp_(min=0).mul_(gradient), None


class _StraightThroughSign(torch.autograd.Function):
    """alpha * sign(w), whose gradient reaches w unchanged where |w| <= 1."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return binary_sign(weight).mul_(alpha)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return weight.abs().le_(1).mul_(gradient), None


class _PReLU(torch.autograd.Function):
    """PReLU per channel, whose gradient takes few passes in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        factor = slope[:, None, None]
        to_slope = x.clamp(max=0).mul_(gradient).sum((0, 2, 3))
        to_x = x.clone().gt_(0).mul_(1 - factor).add_(factor).mul_(gradient)
        return to_x, to_slope


def _scaled_sign(weight: Tensor, alpha: Tensor) -> Tensor:
    if weight.requires_grad and torch.is_grad_enabled():
        return _StraightThroughSign.apply(weight, alpha)
    return binary_sign(weight).mul_(alpha)


def _padded_sign(x: Tensor, padding: tuple[int, int]) -> Tensor:
    if not any(padding):
        return binary_sign(x)
    rows, columns = padding
    return F.pad(x.detach(), (columns, columns, rows, rows)).ge_(0).mul_(2).sub_(1)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(Cout,) values, shaped to broadcast over (Cout, ...)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))

"""Signs of weights as bits, eight to a byte."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["pack_signs", "packed_shape", "unpack_signs"]

_BITS = 8


def packed_shape(shape: torch.Size | tuple[int, ...]) -> tuple[int, int]:
    """Shape of the packed form of a weight: one row of bytes for each output channel.

    Args:
        shape: (Cout, ...) of the weight.

    Returns:
        (Cout, ceil(n / 8)) for n weights a channel.
    """
    return shape[0], -(-math.prod(shape[1:]) // _BITS)


def pack_signs(weight: Tensor) -> Tensor:
    """Packs the signs of a weight, of which zero is positive.

    The n weights of an output channel, in memory order (Cin, kh, kw), are the bits of its own row:
    weight i is bit i % 8, counted from the lowest, of byte i // 8; 1 is positive, 0 negative. The
    unused bits of a row's last byte are 0.

    Args:
        weight: (Cout, ...).

    Returns:
        (Cout, ceil(n / 8)) uint8.
    """
    rows, columns = packed_shape(weight.shape)
    bits = (weight >= 0).reshape(rows, -1).to(torch.uint8)
    bits = torch.nn.functional.pad(bits, (0, columns * _BITS - bits.shape[1]))
    return (bits.view(rows, columns, _BITS) << _places(weight.device)).sum(2, dtype=torch.uint8)


def unpack_signs(packed: Tensor, scale: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Unpacks signs and multiplies them by their channel's scale.

    Args:
        packed: what :func:`pack_signs` returned.
        scale: (Cout,) alpha of each output channel.
        shape: (Cout, ...) of the weight.

    Returns:
        The weight of that shape, whose values are exactly alpha and -alpha, in alpha's type.
    """
    bits = (packed.unsqueeze(2) >> _places(packed.device)).bitwise_and_(1).flatten(1)
    positive = bits[:, : math.prod(shape[1:])].bool().view(tuple(shape))
    scale = scale.view(-1, *[1] * (len(shape) - 1))
    return torch.where(positive, scale, -scale)


def _places(device: torch.device) -> Tensor:
    return torch.arange(_BITS, dtype=torch.uint8, device=device)

"""Activations of 1-bit networks: ReActNet's shifts and PReLU (arXiv 2003.03488)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.modeling.binary.functional import prelu

__all__ = ["LearnableBias", "PReLU", "RPReLU"]


class LearnableBias(nn.Module):
    """x + b with one learnable b per channel, which begins at 0."""

    def __init__(self, channels: int) -> None:
        """Builds the layer.

        Args:
            channels: of the input.
        """
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Shifts (N, C, H, W), whose type stays (under autocast too)."""
        return x + self.bias.to(x.dtype)[:, None, None]


class PReLU(nn.PReLU):
    """PyTorch's layer with a gradient that is quick on a CPU too."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        return prelu(x, self.weight)


class RPReLU(nn.Module):
    """ReActNet's PReLU(x + b1) + b2; slopes begin at 0.25, both biases at 0, all per channel."""

    def __init__(self, channels: int) -> None:
        """Builds the layer.

        Args:
            channels: of the input.
        """
        super().__init__()
        self.shift = LearnableBias(channels)
        self.prelu = PReLU(channels)
        self.offset = LearnableBias(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        return self.offset(self.prelu(self.shift(x)))

"""The building blocks of 1-bit networks.

Sources: one shortcut per convolution is Bi-Real Net's (arXiv 1808.00278), the learnable shifts
ReActNet's (arXiv 2003.03488), their use in detectors IDa-Det's (arXiv 2210.03477).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.layers import CNNBlockBase
from fvcore.nn import weight_init
from torch import Tensor, nn

from distill.modeling.binary.activations import LearnableBias, PReLU, RPReLU
from distill.modeling.binary.layers import BinaryConv2d, BinarySettings
from distill.modeling.norm import build_norm

__all__ = ["BinaryBlock", "BinaryConvPReLU", "conv_and_norm"]


class BinaryBlock(CNNBlockBase):
    """One 1-bit 3x3 convolution with its own shortcut.

    y = norm(conv(x + b0)) + shortcut(x), out = PReLU(y + b1) + b2. A shortcut that changes shape
    is real: 2x2 average pooling where the block strides, 1x1 convolution, normalization.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        norm: str = "BN",
        settings: BinarySettings,
    ) -> None:
        """Builds the block.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            stride: 1 or 2.
            dilation: of the convolution.
            padding: of the convolution; None keeps the size (at stride 1).
            norm: normalization, see ``build_norm``.
            settings: of the convolution.
        """
        super().__init__(in_channels, out_channels, stride)
        self.shift = LearnableBias(in_channels)
        self.conv, self.norm = conv_and_norm(
            in_channels,
            out_channels,
            norm,
            settings,
            stride=stride,
            padding=dilation if padding is None else padding,
            dilation=dilation,
        )
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.activation = RPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, Cin, H, W) to (N, Cout, ceil(H / stride), ceil(W / stride))."""
        y = self.norm(self.conv(self.shift(x))) + self.shortcut(x)
        return self.activation(y)


class BinaryConvPReLU(nn.Module):
    """A 1-bit 3x3 convolution of stride 1, optional normalization, and a PReLU per channel."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: str = "", settings: BinarySettings
    ) -> None:
        """Builds the layers.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            norm: normalization, see ``build_norm``; "" gives the convolution a bias instead.
            settings: of the convolution.
        """
        super().__init__()
        self.conv, self.norm = conv_and_norm(
            in_channels, out_channels, norm, settings, fill=weight_init.c2_xavier_fill, padding=1
        )
        self.prelu = PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, Cin, H, W) to (N, Cout, H, W)."""
        return self.prelu(self.norm(self.conv(x)))


def conv_and_norm(
    in_channels: int,
    out_channels: int,
    norm: str,
    settings: BinarySettings,
    *,
    fill: Callable[[nn.Module], None] = weight_init.c2_msra_fill,
    **shape: Any,
) -> tuple[BinaryConv2d, nn.Module]:
    """A 1-bit 3x3 convolution and its normalization.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        norm: normalization, see ``build_norm``; "" gives the convolution a bias instead.
        settings: of the convolution.
        fill: initializes its weights.
        shape: its ``stride``, ``padding`` and ``dilation``.
    """
    conv = settings.conv(in_channels, out_channels, 3, bias=not norm, **shape)
    fill(conv)
    conv.reset_scale()
    return conv, build_norm(norm, out_channels) or nn.Identity()


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    shortcut = nn.Sequential()
    if stride > 1:
        # Rounding up, as the 3x3 convolution of padding 1 does.
        shortcut.add_module("pool", nn.AvgPool2d(stride, stride, ceil_mode=True))
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=not norm)
    weight_init.c2_msra_fill(conv)
    shortcut.add_module("conv", conv)
    if norm:
        shortcut.add_module("norm", build_norm(norm, out_channels))
    return shortcut

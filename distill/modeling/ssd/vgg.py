"""SSD's backbones: VGG with more levels on top, real-valued or 1-bit.

Sources: SSD (arXiv 1512.02325); the 1-bit layout is that of the authors of IDa-Det
(arXiv 2210.03477), as their earlier code has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from distill.modeling.binary import (
    BinaryBlock,
    BinarySettings,
    LearnableBias,
    RPReLU,
    conv_and_norm,
)
from distill.modeling.norm import build_norm

__all__ = ["L2Norm", "SSDBackbone", "build_ssd_bivgg_backbone", "build_ssd_vgg_backbone"]

# Strides of conv4_3 and fc7: three poolings, and four.
_VGG_STRIDES = (8, 16)


class L2Norm(nn.Module):
    """Scales every position's vector to length 1, then each channel by a learnable factor.

    Source: ParseNet, arXiv 1506.04579.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        """Builds the layer.

        Args:
            channels: of the map.
            scale: that the factors begin with.
        """
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape; vectors of zeros stay so."""
        return (F.normalize(x.float(), dim=1) * self.scale[:, None, None]).to(x.dtype)


class SSDBackbone(Backbone):
    """VGG up to conv7 and the extra levels: conv4_3, fc7, extra1, extra2, ..."""

    def __init__(
        self,
        vgg: nn.Sequential,
        extras: Sequence[nn.Module],
        *,
        conv4_3: str,
        channels: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        """Names the levels.

        Args:
            vgg: named layers; the output of the last is fc7.
            extras: each makes a level of the level before it.
            conv4_3: name of the layer of `vgg` whose output is the level conv4_3.
            channels: of the levels.
            strides: of the levels, in pixels.
        """
        super().__init__()
        self.vgg = vgg
        self.extras = nn.ModuleList(extras)
        self.norm = L2Norm(channels[0])
        self._conv4_3 = conv4_3
        names = ["conv4_3", "fc7", *(f"extra{i + 1}" for i in range(len(extras)))]
        self._out_features = names
        self._out_feature_channels = dict(zip(names, channels, strict=True))
        self._out_feature_strides = dict(zip(names, strides, strict=True))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps images (N, 3, H, W) to the levels' maps by name."""
        levels = []
        for name, layer in self.vgg.named_children():
            x = layer(x)
            if name == self._conv4_3:
                levels.append(self.norm(x))
        levels.append(x)
        for layer in self.extras:
            levels.append(layer(levels[-1]))
        return dict(zip(self._out_features, levels, strict=True))


@dataclass(frozen=True)
class _Layers:
    """The layers of the real-valued VGG."""

    norm: str

    def conv(self, in_channels: int, out_channels: int) -> nn.Module:
        return _conv_relu(in_channels, out_channels, 3, norm=self.norm)

    def pool(self, channels: int, following: int) -> tuple[nn.Module, int]:
        """The layer that halves the size before the stage that follows, and its channels."""
        # Rounding up matters for pool3 of SSD300 alone: 75 cells become 38.
        return nn.MaxPool2d(2, 2, ceil_mode=True), channels

    def dilated(self, in_channels: int, out_channels: int, dilation: int) -> nn.Module:
        return _conv_relu(in_channels, out_channels, 3, norm=self.norm, dilation=dilation)


@dataclass(frozen=True)
class _BinaryLayers(_Layers):
    """Those of the 1-bit VGG in the same places."""

    settings: BinarySettings

    def conv(self, in_channels: int, out_channels: int) -> nn.Module:
        return BinaryBlock(in_channels, out_channels, norm=self.norm, settings=self.settings)

    def pool(self, channels: int, following: int) -> tuple[nn.Module, int]:
        # It widens, so that every block of the stage itself keeps an identity as its shortcut.
        block = BinaryBlock(channels, following, stride=2, norm=self.norm, settings=self.settings)
        return block, following

    def dilated(self, in_channels: int, out_channels: int, dilation: int) -> nn.Module:
        layers = conv_and_norm(
            in_channels, out_channels, self.norm, self.settings, padding=dilation, dilation=dilation
        )
        return nn.Sequential(LearnableBias(in_channels), *layers, RPReLU(out_channels))


@BACKBONE_REGISTRY.register()
def build_ssd_vgg_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SSDBackbone:
    """Builds the real-valued backbone that MODEL.SSD describes.

    Args:
        cfg: a config with the keys of :func:`add_ssd_config`.
        input_shape: of the image; its channels are used.

    Returns:
        A backbone with the outputs conv4_3, fc7, extra1, ...

    Raises:
        ValueError: the keys of MODEL.SSD contradict each other.
    """
    return _build(cfg, input_shape, _Layers(cfg.MODEL.SSD.NORM))


@BACKBONE_REGISTRY.register()
def build_ssd_bivgg_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SSDBackbone:
    """Builds the backbone of MODEL.SSD with the 1-bit layers of MODEL.BINARY.

    conv1_1, conv7 and the extra levels are real; a 1-bit block that strides stands in for each of
    the first four poolings.

    Args:
        cfg: a config with the keys of :func:`add_ssd_config` and ``add_binary_config``.
        input_shape: of the image; its channels are used.

    Returns:
        A backbone with the outputs conv4_3, fc7, extra1, ...

    Raises:
        ValueError: the keys of MODEL.SSD contradict each other.
    """
    layers = _BinaryLayers(cfg.MODEL.BINARY.NORM, BinarySettings.from_config(cfg))
    return _build(cfg, input_shape, layers)


def _build(cfg: CfgNode, input_shape: ShapeSpec, layers: _Layers) -> SSDBackbone:
    node = cfg.MODEL.SSD
    _check_stages(node)
    _check_extras(node)
    vgg = nn.Sequential()
    for name, layer in _vgg_layers(node, input_shape.channels, layers):
        vgg.add_module(name, layer)
    channels = (node.FC_CHANNELS, *node.EXTRA_CHANNELS)
    return SSDBackbone(
        vgg,
        [
            _extra(before, after, stride, padding)
            for (before, after), stride, padding in zip(
                itertools.pairwise(channels),
                node.EXTRA_CONV_STRIDES,
                node.EXTRA_PADDINGS,
                strict=True,
            )
        ],
        conv4_3=f"conv4_{node.VGG_CONVS[3]}",
        channels=(node.VGG_CHANNELS[3], *channels),
        strides=(*_VGG_STRIDES, *node.EXTRA_STRIDES),
    )


def _vgg_layers(node: CfgNode, channels: int, layers: _Layers) -> Iterator[tuple[str, nn.Module]]:
    """VGG's layers and their names, conv1_1 to conv7."""
    stages = zip(node.VGG_CHANNELS, node.VGG_CONVS, strict=True)
    for stage, (width, convs) in enumerate(stages, start=1):
        for number in range(1, convs + 1):
            # The image is read by a real-valued convolution, in the 1-bit network too.
            first = stage == number == 1
            make = partial(_conv_relu, kernel_size=3, norm=layers.norm) if first else layers.conv
            yield f"conv{stage}_{number}", make(channels, width)
            channels = width
        if stage < len(node.VGG_CHANNELS):
            layer, channels = layers.pool(channels, node.VGG_CHANNELS[stage])
            yield f"pool{stage}", layer
    yield "pool5", nn.MaxPool2d(3, 1, padding=1)
    yield "conv6", layers.dilated(channels, node.FC_CHANNELS, node.FC_DILATION)
    yield "conv7", _conv_relu(node.FC_CHANNELS, node.FC_CHANNELS, 1, norm=node.NORM)


def _conv_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, norm: str, dilation: int = 1
) -> Conv2d:
    """A real-valued convolution that keeps the size, normalization and ReLU."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        bias=not norm,
        norm=build_norm(norm, out_channels),
        activation=F.relu_,
    )
    weight_init.c2_msra_fill(conv)
    return conv


def _extra(in_channels: int, out_channels: int, stride: int, padding: int) -> nn.Sequential:
    reduce = Conv2d(in_channels, out_channels // 2, 1, activation=F.relu_)
    expand = Conv2d(
        out_channels // 2, out_channels, 3, stride=stride, padding=padding, activation=F.relu_
    )
    for conv in (reduce, expand):
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)
    return nn.Sequential(reduce, expand)


def _check_stages(node: CfgNode) -> None:
    stages = len(node.VGG_CHANNELS), len(node.VGG_CONVS)
    if stages != (5, 5) or min(node.VGG_CONVS) < 1:
        raise ValueError(
            f"MODEL.SSD.VGG_CHANNELS {tuple(node.VGG_CHANNELS)} and VGG_CONVS "
            f"{tuple(node.VGG_CONVS)} must each have five entries, and every stage a convolution."
        )


def _check_extras(node: CfgNode) -> None:
    keys = ("EXTRA_CHANNELS", "EXTRA_CONV_STRIDES", "EXTRA_PADDINGS", "EXTRA_STRIDES")
    if len({len(node[key]) for key in keys}) > 1:
        raise ValueError(
            f"MODEL.SSD.{', '.join(keys)} must have as many entries each as there are extra levels."
        )
    cells = -(-node.IMAGE_SIZE // _VGG_STRIDES[1])
    for number, (stride, padding) in enumerate(
        zip(node.EXTRA_CONV_STRIDES, node.EXTRA_PADDINGS, strict=True), start=1
    ):
        cells = (cells + 2 * padding - 3) // stride + 1
        if cells < 1:
            raise ValueError(
                f"MODEL.SSD.IMAGE_SIZE {node.IMAGE_SIZE} leaves no cell for the level "
                f"extra{number}: take away extra levels, or pad them (MODEL.SSD.EXTRA_PADDINGS)."
            )

"""Slim residual backbones for small images, with or without a feature pyramid.

A ResNet of basic blocks that starts at stride 2 without max pooling and ends at stride 16, narrow
enough to be trained from scratch on a CPU.
"""

from __future__ import annotations

import itertools

import torch
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock
from fvcore.nn import weight_init
from torch import nn
from torch.nn import functional as F

from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import list_of, text, whole

__all__ = [
    "SlimStem",
    "add_slim_config",
    "build_slim_backbone",
    "build_slim_fpn_backbone",
    "slim_channels",
]

# The residual branches start small, which steadies short schedules with a high learning rate.
_RESIDUAL_GAMMA = 0.2


@defines_keys
def add_slim_config(cfg: CfgNode) -> None:
    """Adds the keys of the slim backbones to a Detectron2 config, in place.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    slim = cfg.MODEL.SLIM = CfgNode()
    # Channels of the stem (stride 2).
    slim.STEM_CHANNELS = 8
    # Channels of res2, res3 and res4 (strides 4, 8 and 16); each must differ from those before it.
    slim.STAGE_CHANNELS = (16, 32, 64)
    # Number of basic blocks in each of these stages.
    slim.BLOCKS = (1, 1, 1)
    # Normalization of the backbone; the pyramid has MODEL.FPN.NORM.
    slim.NORM = "BN"
    # Outputs without a pyramid; the pyramid takes MODEL.FPN.IN_FEATURES.
    slim.OUT_FEATURES = ("res2", "res3", "res4")
    limit(
        slim,
        STEM_CHANNELS=whole(at_least=1),
        STAGE_CHANNELS=list_of(whole(at_least=1), at_least=1),
        BLOCKS=list_of(whole(at_least=1), at_least=1),
        OUT_FEATURES=list_of(text(), at_least=1, distinct=True),
    )


class SlimStem(CNNBlockBase):
    """3x3 convolution of stride 2, normalization and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm: str = "BN") -> None:
        """Builds the stem.

        Args:
            in_channels: channels of the image.
            out_channels: channels of the output.
            norm: normalization, as in ``detectron2.layers.get_norm``.
        """
        super().__init__(in_channels, out_channels, stride=2)
        self.conv = Conv2d(
            in_channels,
            out_channels,
            kernel_size=3,
            stride=2,
            padding=1,
            bias=not norm,
            norm=get_norm(norm, out_channels),
        )
        weight_init.c2_msra_fill(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / 2, W / 2)."""
        return F.relu_(self.conv(x))


@BACKBONE_REGISTRY.register()
def build_slim_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Builds the slim backbone that ``cfg.MODEL.SLIM`` describes.

    Args:
        cfg: a config with the keys of :func:`add_slim_config`; also reads
            ``MODEL.BACKBONE.FREEZE_AT``.
        input_shape: of the image; its channels are used.

    Returns:
        A backbone with the outputs ``MODEL.SLIM.OUT_FEATURES``.

    Raises:
        ValueError: the keys of ``MODEL.SLIM`` contradict each other.
    """
    return _build_resnet(cfg, input_shape, cfg.MODEL.SLIM.OUT_FEATURES)


@BACKBONE_REGISTRY.register()
def build_slim_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Builds the slim backbone with a feature pyramid and no level on top.

    Args:
        cfg: a config with the keys of :func:`add_slim_config`; also reads ``MODEL.FPN`` and
            ``MODEL.BACKBONE.FREEZE_AT``.
        input_shape: of the image; its channels are used.

    Returns:
        A backbone with one output per entry of ``MODEL.FPN.IN_FEATURES``: p2 (stride 4) for res2,
        p3 (stride 8) for res3, p4 (stride 16) for res4.

    Raises:
        ValueError: the keys of ``MODEL.SLIM`` contradict each other.
    """
    fpn = cfg.MODEL.FPN
    return FPN(
        bottom_up=_build_resnet(cfg, input_shape, fpn.IN_FEATURES),
        in_features=fpn.IN_FEATURES,
        out_channels=fpn.OUT_CHANNELS,
        norm=fpn.NORM,
        top_block=None,
        fuse_type=fpn.FUSE_TYPE,
    )


def slim_channels(slim: CfgNode) -> tuple[int, ...]:
    """The channels of the stem and of each stage.

    Args:
        slim: ``MODEL.SLIM``.

    Raises:
        ValueError: not every stage has a block.
    """
    if len(slim.BLOCKS) != len(slim.STAGE_CHANNELS) or min(slim.BLOCKS, default=0) < 1:
        raise ValueError(
            f"MODEL.SLIM.BLOCKS {tuple(slim.BLOCKS)} must give at least one block for each entry "
            f"of MODEL.SLIM.STAGE_CHANNELS {tuple(slim.STAGE_CHANNELS)}."
        )
    return (slim.STEM_CHANNELS, *slim.STAGE_CHANNELS)


def _build_resnet(cfg: CfgNode, input_shape: ShapeSpec, out_features: list[str]) -> ResNet:
    slim = cfg.MODEL.SLIM
    channels = slim_channels(slim)
    # Detectron2's BasicBlock has no shortcut convolution, and so cannot stride, at equal channels.
    if any(before == after for before, after in itertools.pairwise(channels)):
        raise ValueError(
            f"MODEL.SLIM.STEM_CHANNELS and STAGE_CHANNELS {channels} must change from each stage "
            "to the next."
        )
    stages = [
        _make_stage(before, after, blocks, slim.NORM)
        for (before, after), blocks in zip(itertools.pairwise(channels), slim.BLOCKS, strict=True)
    ]
    stem = SlimStem(input_shape.channels, slim.STEM_CHANNELS, slim.NORM)
    return ResNet(
        stem, stages, out_features=list(out_features), freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def _make_stage(in_channels: int, out_channels: int, blocks: int, norm: str) -> list[BasicBlock]:
    """Basic blocks of one stage, the first with stride 2."""
    stage = []
    for index in range(blocks):
        first = index == 0
        block = BasicBlock(
            in_channels if first else out_channels,
            out_channels,
            stride=2 if first else 1,
            norm=norm,
        )
        if block.conv2.norm is not None:
            nn.init.constant_(block.conv2.norm.weight, _RESIDUAL_GAMMA)
        stage.append(block)
    return stage

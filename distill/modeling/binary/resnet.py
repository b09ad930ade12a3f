"""1-bit residual backbones, with or without a 1-bit feature pyramid.

Sources: one shortcut per 1-bit convolution is Bi-Real Net's (arXiv 1808.00278); the layout for
detectors, with a real stem and real shortcuts, IDa-Det's (arXiv 2210.03477).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from fvcore.nn import weight_init
from torch import Tensor, nn

from distill.modeling.binary.block import BinaryBlock
from distill.modeling.binary.fpn import BinaryFPN
from distill.modeling.binary.layers import BinarySettings
from distill.modeling.norm import build_norm
from distill.modeling.slim import slim_channels

__all__ = [
    "BinaryStem",
    "build_binary_resnet_backbone",
    "build_binary_resnet_fpn_backbone",
    "build_binary_slim_fpn_backbone",
]

# Convolutions per stage, each a block.
_CONVS = {18: (4, 4, 4, 4), 34: (6, 8, 12, 6)}
_STEM_CHANNELS = 64
_STAGE_CHANNELS = (64, 128, 256, 512)


class BinaryStem(CNNBlockBase):
    """A real convolution of stride 2 and normalization, with or without 3x3/2 max pooling.

    There is no activation: the first block binarizes or adds to its shortcut what comes out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: str = "BN",
        *,
        kernel_size: int = 7,
        pool: bool = True,
    ) -> None:
        """Builds the stem.

        Args:
            in_channels: channels of the image.
            out_channels: channels of the output.
            norm: normalization, see ``build_norm``.
            kernel_size: of the convolution.
            pool: end with max pooling, for a stride of 4 instead of 2.
        """
        super().__init__(in_channels, out_channels, stride=4 if pool else 2)
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=2,
            padding=kernel_size // 2,
            bias=not norm,
        )
        weight_init.c2_msra_fill(self.conv)
        self.norm = build_norm(norm, out_channels) or nn.Identity()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), rounded up."""
        return self.pool(self.norm(self.conv(x)))


@BACKBONE_REGISTRY.register()
def build_binary_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Builds a 1-bit ResNet-18 or -34.

    Args:
        cfg: reads ``MODEL.BINARY``, ``MODEL.RESNETS.DEPTH`` and ``.OUT_FEATURES``, and
            ``MODEL.BACKBONE.FREEZE_AT``.
        input_shape: of the image; its channels are used.

    Returns:
        A backbone with the outputs ``MODEL.RESNETS.OUT_FEATURES``, of strides 4 (res2) to 32
        (res5).

    Raises:
        ValueError: there is no 1-bit ResNet of that depth.
    """
    return _build_resnet(cfg, input_shape, cfg.MODEL.RESNETS.OUT_FEATURES)


@BACKBONE_REGISTRY.register()
def build_binary_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> BinaryFPN:
    """Builds a 1-bit ResNet-18 or -34 with a 1-bit pyramid and p6 on top.

    Args:
        cfg: reads ``MODEL.BINARY``, ``MODEL.FPN``, ``MODEL.RESNETS.DEPTH`` and
            ``MODEL.BACKBONE.FREEZE_AT``.
        input_shape: of the image; its channels are used.

    Returns:
        A backbone with one output per entry of ``MODEL.FPN.IN_FEATURES`` and p6.

    Raises:
        ValueError: there is no 1-bit ResNet of that depth.
    """
    bottom_up = _build_resnet(cfg, input_shape, cfg.MODEL.FPN.IN_FEATURES)
    return _add_pyramid(cfg, bottom_up, LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_binary_slim_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> BinaryFPN:
    """Builds the narrow 1-bit backbone for small images, with a 1-bit pyramid.

    The stem is a 3x3 convolution without pooling, so that the strides are those of the real slim
    backbone: 4 (res2), 8 (res3) and 16 (res4).

    Args:
        cfg: reads ``MODEL.BINARY``, ``MODEL.FPN``, ``MODEL.SLIM`` (``STEM_CHANNELS``,
            ``STAGE_CHANNELS`` and, as convolutions per stage, ``BLOCKS``) and
            ``MODEL.BACKBONE.FREEZE_AT``.
        input_shape: of the image; its channels are used.

    Returns:
        A backbone with one output per entry of ``MODEL.FPN.IN_FEATURES``.

    Raises:
        ValueError: the keys of ``MODEL.SLIM`` contradict each other.
    """
    slim = cfg.MODEL.SLIM
    channels = slim_channels(slim)
    stem = BinaryStem(
        input_shape.channels, slim.STEM_CHANNELS, cfg.MODEL.BINARY.NORM, kernel_size=3, pool=False
    )
    stages = _make_stages(cfg, channels, slim.BLOCKS, 2)
    bottom_up = ResNet(
        stem,
        stages,
        out_features=list(cfg.MODEL.FPN.IN_FEATURES),
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return _add_pyramid(cfg, bottom_up, None)


def _build_resnet(cfg: CfgNode, input_shape: ShapeSpec, out_features: Sequence[str]) -> ResNet:
    depth = cfg.MODEL.RESNETS.DEPTH
    if depth not in _CONVS:
        raise ValueError(f"There is no 1-bit ResNet-{depth}: set MODEL.RESNETS.DEPTH to 18 or 34.")
    stem = BinaryStem(input_shape.channels, _STEM_CHANNELS, cfg.MODEL.BINARY.NORM)
    stages = _make_stages(cfg, (_STEM_CHANNELS, *_STAGE_CHANNELS), _CONVS[depth], 1)
    return ResNet(
        stem, stages, out_features=list(out_features), freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


def _make_stages(
    cfg: CfgNode, channels: Sequence[int], blocks: Sequence[int], first_stride: int
) -> list[list[BinaryBlock]]:
    """Stages of 1-bit blocks, of which the first has a stride of its own and the others 2.

    Args:
        cfg: reads ``MODEL.BINARY``.
        channels: of the stem and of each stage.
        blocks: number in each stage.
        first_stride: of the first stage.
    """
    settings = BinarySettings.from_config(cfg)
    stages = []
    for (before, after), number in zip(itertools.pairwise(channels), blocks, strict=True):
        stride = 2 if stages else first_stride
        stages.append(
            ResNet.make_stage(
                BinaryBlock,
                number,
                in_channels=before,
                out_channels=after,
                stride_per_block=[stride] + [1] * (number - 1),
                norm=cfg.MODEL.BINARY.NORM,
                settings=settings,
            )
        )
    return stages


def _add_pyramid(cfg: CfgNode, bottom_up: ResNet, top_block: nn.Module | None) -> BinaryFPN:
    fpn = cfg.MODEL.FPN
    return BinaryFPN(
        bottom_up,
        list(fpn.IN_FEATURES),
        fpn.OUT_CHANNELS,
        fpn.NORM,
        top_block,
        fpn.FUSE_TYPE,
        settings=BinarySettings.from_config(cfg),
    )

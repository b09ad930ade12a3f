"""The 1-bit feature pyramid of IDa-Det (arXiv 2210.03477)."""

from __future__ import annotations

import math

from detectron2.modeling import FPN, Backbone
from torch import nn

from distill.modeling.binary.block import BinaryConvPReLU
from distill.modeling.binary.layers import BinarySettings

__all__ = ["BinaryFPN"]


class BinaryFPN(FPN):
    """Detectron2's FPN, whose laterals and outputs are 3x3 1-bit convolutions, each with PReLU."""

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: list[str],
        out_channels: int,
        norm: str = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        *,
        settings: BinarySettings,
    ) -> None:
        """Builds the pyramid.

        Args:
            bottom_up: backbone below it.
            in_features: outputs of that backbone to use, from high to low resolution.
            out_channels: of every level.
            norm: normalization after each convolution, see ``build_norm``; "" gives the
                convolutions a bias instead.
            top_block: makes further levels, as Detectron2's LastLevelMaxPool.
            fuse_type: ``sum`` or ``avg``.
            settings: of the convolutions.
        """
        super().__init__(
            bottom_up, in_features, out_channels, top_block=top_block, fuse_type=fuse_type
        )
        shapes = bottom_up.output_shape()
        laterals, outputs = [], []
        for name in in_features:
            stage = int(math.log2(shapes[name].stride))
            lateral = BinaryConvPReLU(
                shapes[name].channels, out_channels, norm=norm, settings=settings
            )
            output = BinaryConvPReLU(out_channels, out_channels, norm=norm, settings=settings)
            setattr(self, f"fpn_lateral{stage}", lateral)
            setattr(self, f"fpn_output{stage}", output)
            laterals.append(lateral)
            outputs.append(output)
        # From low to high resolution, as Detectron2's forward takes them.
        self.lateral_convs = laterals[::-1]
        self.output_convs = outputs[::-1]

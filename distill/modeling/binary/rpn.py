"""The 1-bit head of the region proposal network of IDa-Det (arXiv 2210.03477)."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import RPN_HEAD_REGISTRY
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead

from distill.modeling.binary.block import BinaryConvPReLU
from distill.modeling.binary.layers import BinaryConv2d, BinarySettings

__all__ = ["BinaryRPNHead"]


@RPN_HEAD_REGISTRY.register()
class BinaryRPNHead(StandardRPNHead):
    """Detectron2's head, whose 3x3 convolutions are 1-bit with PReLU; the 1x1 ones are real."""

    @configurable
    def __init__(self, *, settings: BinarySettings, **arguments: Any) -> None:
        """Builds the head.

        Args:
            settings: of the 3x3 convolutions.
            arguments: those of Detectron2's StandardRPNHead.
        """
        self._settings = settings
        super().__init__(**arguments)
        for module in self.modules():
            if isinstance(module, BinaryConv2d):
                module.reset_scale()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """The arguments from MODEL.RPN and MODEL.BINARY."""
        arguments = super().from_config(cfg, input_shape)
        return {**arguments, "settings": BinarySettings.from_config(cfg)}

    def _get_rpn_conv(self, in_channels: int, out_channels: int) -> BinaryConvPReLU:
        return BinaryConvPReLU(in_channels, out_channels, settings=self._settings)

"""1-bit networks: binarization, layers, backbones, necks and heads."""

from distill.modeling.binary.activations import LearnableBias, PReLU, RPReLU
from distill.modeling.binary.block import BinaryBlock, BinaryConvPReLU, conv_and_norm
from distill.modeling.binary.config import add_binary_config
from distill.modeling.binary.fpn import BinaryFPN
from distill.modeling.binary.functional import binarize_activation, binarize_weight
from distill.modeling.binary.layers import BinaryConv2d, BinarySettings
from distill.modeling.binary.resnet import BinaryStem
from distill.modeling.binary.rpn import BinaryRPNHead

__all__ = [
    "BinaryBlock",
    "BinaryConv2d",
    "BinaryConvPReLU",
    "BinaryFPN",
    "BinaryRPNHead",
    "BinarySettings",
    "BinaryStem",
    "LearnableBias",
    "PReLU",
    "RPReLU",
    "add_binary_config",
    "binarize_activation",
    "binarize_weight",
    "conv_and_norm",
]

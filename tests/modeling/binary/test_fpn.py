"""The 1-bit feature pyramid: its formula, and that it is Detectron2's otherwise."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import FPN, build_backbone
from torch import nn
from torch.nn import functional as F

from distill.modeling.binary import BinaryConv2d, BinaryFPN


def test_levels_are_laterals_plus_what_comes_from_above(cfg: CfgNode) -> None:
    fpn = build_backbone(cfg).eval()
    assert isinstance(fpn, FPN)
    for p in fpn.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(1, 3, 32, 48)
    bottom_up = fpn.bottom_up(x)

    def neck(name: str, feature: torch.Tensor) -> torch.Tensor:
        layer = getattr(fpn, name)
        return F.prelu(layer.conv(feature), layer.prelu.weight)

    inner = neck("fpn_lateral4", bottom_up["res4"])
    expected = {"p4": neck("fpn_output4", inner)}
    for level in (3, 2):
        above = F.interpolate(inner, scale_factor=2, mode="nearest")
        inner = neck(f"fpn_lateral{level}", bottom_up[f"res{level}"]) + above
        expected[f"p{level}"] = neck(f"fpn_output{level}", inner)
    features = fpn(x)
    assert list(features) == ["p2", "p3", "p4"]
    for name, feature in features.items():
        torch.testing.assert_close(feature, expected[name])


@pytest.mark.parametrize("norm", ["", "FrozenStatsBN"])
def test_its_convolutions_are_3x3_with_either_bias_or_norm(cfg: CfgNode, norm: str) -> None:
    cfg.MODEL.FPN.NORM = norm
    fpn = build_backbone(cfg)
    convs = {n: m for n, m in fpn.named_modules() if n.startswith("fpn") and n.endswith("conv")}
    assert len(convs) == 6
    for conv in convs.values():
        assert type(conv) is BinaryConv2d and conv.kernel_size == (3, 3)
        assert (conv.bias is None) == bool(norm)
    # Nothing of Detectron2's own real convolutions is left.
    assert {name.split(".")[1] for name in fpn.state_dict() if name.startswith("fpn")} == (
        {"conv", "norm", "prelu"} if norm else {"conv", "prelu"}
    )
    assert [layer.prelu.num_parameters for layer in fpn.lateral_convs] == [8, 8, 8]


def test_sizes_and_padding_are_those_of_detectron2(cfg: CfgNode) -> None:
    fpn = build_backbone(cfg)
    assert isinstance(fpn, BinaryFPN)
    cfg.MODEL.BACKBONE.NAME = "build_slim_fpn_backbone"
    reference = build_backbone(cfg)
    assert fpn.output_shape() == reference.output_shape()
    # Detectron2's main branch has a second rule of padding.
    for name in ("size_divisibility", "padding_constraints"):
        assert getattr(fpn, name, None) == getattr(reference, name, None)


def test_features_may_be_averaged(cfg: CfgNode) -> None:
    cfg.MODEL.FPN.FUSE_TYPE = "avg"
    fpn = build_backbone(cfg).eval()
    seen = []
    fpn.fpn_output3.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.randn(1, 3, 32, 32)
    fpn(x)
    features = fpn.bottom_up(x)
    above = F.interpolate(fpn.fpn_lateral4(features["res4"]), scale_factor=2)
    torch.testing.assert_close(seen[0], (fpn.fpn_lateral3(features["res3"]) + above) / 2)

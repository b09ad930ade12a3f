"""The slim backbones: their shapes, their initialization, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import nn

from distill.modeling.slim import add_slim_config


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    if "SLIM" not in cfg.MODEL:
        add_slim_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_slim_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.FPN.NORM = "BN"
    return cfg


def shapes(features: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(feature.shape) for name, feature in features.items()}


def test_the_pyramid_has_strides_4_8_16_and_no_level_on_top(cfg: CfgNode) -> None:
    backbone = build_backbone(cfg)
    features = backbone(torch.zeros(2, 3, 64, 96))
    assert shapes(features) == {
        "p2": (2, 32, 16, 24),
        "p3": (2, 32, 8, 12),
        "p4": (2, 32, 4, 6),
    }
    assert {name: s.stride for name, s in backbone.output_shape().items()} == {
        "p2": 4,
        "p3": 8,
        "p4": 16,
    }


def test_the_backbone_alone_gives_the_stages_asked_for(cfg: CfgNode) -> None:
    cfg.MODEL.BACKBONE.NAME = "build_slim_backbone"
    cfg.MODEL.SLIM.OUT_FEATURES = ("res2", "res3")
    backbone = build_backbone(cfg)
    assert shapes(backbone(torch.zeros(1, 3, 32, 32))) == {
        "res2": (1, 16, 8, 8),
        "res3": (1, 32, 4, 4),
    }
    # A stage nobody reads is not built: its parameters would never get a gradient.
    assert not any(name.startswith("res4") for name, _ in backbone.named_parameters())


def test_every_parameter_gets_a_gradient(cfg: CfgNode) -> None:
    backbone = build_backbone(cfg)
    features = backbone(torch.randn(2, 3, 32, 32))
    sum(feature.square().sum() for feature in features.values()).backward()
    missing = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert missing == []


def test_blocks_are_counted_per_stage_and_start_close_to_their_shortcut(cfg: CfgNode) -> None:
    cfg.MODEL.SLIM.BLOCKS = (1, 2, 3)
    backbone = build_backbone(cfg)
    blocks = [m for m in backbone.modules() if isinstance(m, BasicBlock)]
    assert len(blocks) == 6
    for block in blocks:
        assert torch.all(block.conv2.norm.weight == 0.2)
        assert torch.all(block.conv1.norm.weight == 1.0)


def test_without_a_norm_the_stem_has_a_bias(cfg: CfgNode) -> None:
    cfg.MODEL.SLIM.NORM = ""
    cfg.MODEL.FPN.NORM = ""
    backbone = build_backbone(cfg)
    assert backbone.bottom_up.stem.conv.bias is not None
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    assert backbone(torch.randn(1, 3, 32, 32))["p2"].isfinite().all()


def test_freeze_at_freezes_the_stem_and_the_first_stage_only(cfg: CfgNode) -> None:
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    bottom_up = build_backbone(cfg).bottom_up
    frozen = {name.split(".")[0] for name, p in bottom_up.named_parameters() if not p.requires_grad}
    free = {name.split(".")[0] for name, p in bottom_up.named_parameters() if p.requires_grad}
    assert (frozen, free) == ({"stem", "res2"}, {"res3", "res4"})


@pytest.mark.parametrize("blocks", [(1, 1), (1, 0, 1)])
def test_block_counts_that_do_not_fit_are_refused(cfg: CfgNode, blocks: tuple[int, ...]) -> None:
    cfg.MODEL.SLIM.BLOCKS = blocks
    with pytest.raises(ValueError, match="MODEL.SLIM.BLOCKS .* at least one block for each"):
        build_backbone(cfg)


def test_equal_channels_of_neighboring_stages_are_refused(cfg: CfgNode) -> None:
    cfg.MODEL.SLIM.STEM_CHANNELS = 16
    with pytest.raises(ValueError, match="STEM_CHANNELS and STAGE_CHANNELS .* must change"):
        build_backbone(cfg)

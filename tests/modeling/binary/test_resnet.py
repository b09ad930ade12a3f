"""The 1-bit backbones: how many weights, which shapes, what is frozen and what is refused."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.proposal_generator.rpn import build_rpn_head
from helpers.tiny import changed
from torch import nn
from torch.nn import functional as F

from distill.modeling.binary import BinaryBlock, BinaryConv2d, BinaryStem
from distill.modeling.norm import FrozenStatsBatchNorm2d

RESNET = {
    "MODEL__BACKBONE__NAME": "build_binary_resnet_backbone",
    "MODEL__RESNETS__OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL__RESNETS__DEPTH": 18,
}
RESNET_FPN = {
    "MODEL__BACKBONE__NAME": "build_binary_resnet_fpn_backbone",
    "MODEL__FPN__IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL__FPN__OUT_CHANNELS": 256,
    "MODEL__RESNETS__DEPTH": 18,
}


def shapes(features: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(feature.shape) for name, feature in features.items()}


def binary_weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, BinaryConv2d))


def test_the_stem_has_no_activation() -> None:
    stem = BinaryStem(3, 8).eval()
    x = torch.randn(2, 3, 30, 33)
    expected = F.max_pool2d(F.conv2d(x, stem.conv.weight, stride=2, padding=3), 3, 2, 1)
    torch.testing.assert_close(stem(x), expected / (1 + 1e-5) ** 0.5)
    assert stem(x).min() < 0
    assert stem(x).shape == (2, 8, 8, 9)
    small = BinaryStem(3, 8, "", kernel_size=3, pool=False)
    assert small(x).shape == (2, 8, 15, 17)
    assert (stem.stride, small.stride) == (4, 2)
    assert small.conv.bias is not None


def test_a_resnet_18_detector_has_16_15_million_1_bit_weights(cfg: CfgNode) -> None:
    cfg = changed(cfg, **RESNET_FPN)
    backbone = build_backbone(cfg)
    # 3x3 times: a stage's first block widens, three more follow; laterals, outputs; RPN head.
    stages = [64 * 64 * 4, 128 * (64 + 3 * 128), 256 * (128 + 3 * 256), 512 * (256 + 3 * 512)]
    neck = 256 * (64 + 128 + 256 + 512) + 4 * 256 * 256
    assert binary_weights(backbone) == 9 * (sum(stages) + neck)
    head = build_rpn_head(cfg, [ShapeSpec(channels=256, stride=4)] * 3)
    total = binary_weights(backbone) + binary_weights(head)
    assert total == 16_146_432
    real = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    real = [m for m in real if not isinstance(m, BinaryConv2d)]
    # The stem and three shortcuts.
    assert [m.kernel_size for m in real] == [(7, 7), (1, 1), (1, 1), (1, 1)]


def test_a_resnet_34_has_6_8_12_and_6_convolutions(cfg: CfgNode) -> None:
    cfg = changed(cfg, **{**RESNET, "MODEL__RESNETS__DEPTH": 34})
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    stages = [getattr(backbone, f"res{i}") for i in (2, 3, 4, 5)]
    assert [len(stage) for stage in stages] == [6, 8, 12, 6]
    assert all(isinstance(block, BinaryBlock) for stage in stages for block in stage)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (33, 70)])
def test_a_resnet_takes_any_size(cfg: CfgNode, height: int, width: int) -> None:
    backbone = build_backbone(changed(cfg, **RESNET)).eval()
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, height, width))
    for i in range(4):
        name, channels, stride = f"res{i + 2}", 64 * 2**i, 4 * 2**i
        size = (-(-height // stride), -(-width // stride))
        assert features[name].shape == (1, channels, *size)
        assert backbone.output_shape()[name] == ShapeSpec(channels=channels, stride=stride)


def test_a_resnet_pyramid_has_p6_on_top(cfg: CfgNode) -> None:
    backbone = build_backbone(changed(cfg, **RESNET_FPN)).eval()
    assert backbone.size_divisibility == 32
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 64, 96))
    assert shapes(features) == {
        f"p{i}": (1, 256, -(-64 // 2**i), -(-96 // 2**i)) for i in (2, 3, 4, 5, 6)
    }
    assert torch.equal(features["p6"], features["p5"][..., ::2, ::2])


@pytest.mark.parametrize("depth", [50, 20])
def test_other_depths_are_refused(cfg: CfgNode, depth: int) -> None:
    cfg = changed(cfg, **{**RESNET, "MODEL__RESNETS__DEPTH": depth})
    with pytest.raises(ValueError, match=f"ResNet-{depth}: set MODEL.RESNETS.DEPTH to 18 or 34"):
        build_backbone(cfg)


def test_the_slim_pyramid_has_the_levels_of_the_real_one(cfg: CfgNode) -> None:
    cfg.MODEL.SLIM.BLOCKS = (1, 2, 3)
    backbone = build_backbone(cfg).eval()
    x = torch.randn(2, 3, 64, 96)
    real = build_backbone(changed(cfg, MODEL__BACKBONE__NAME="build_slim_fpn_backbone"))
    assert backbone.output_shape() == real.output_shape()
    assert backbone.size_divisibility == real.size_divisibility == 16
    assert shapes(backbone(x)) == shapes(real(x))
    assert [len(stage) for stage in backbone.bottom_up.stages] == [1, 2, 3]
    # Unlike the real one's, stages may have equal channels.
    cfg.MODEL.SLIM.STEM_CHANNELS = cfg.MODEL.SLIM.STAGE_CHANNELS[0]
    assert build_backbone(cfg)(x)["p2"].shape == (2, 8, 16, 24)


@pytest.mark.parametrize("blocks", [(1, 1), (1, 0, 1)])
def test_block_counts_that_do_not_fit_are_refused(cfg: CfgNode, blocks: tuple[int, ...]) -> None:
    cfg.MODEL.SLIM.BLOCKS = blocks
    with pytest.raises(ValueError, match="MODEL.SLIM.BLOCKS .* at least one block for each"):
        build_backbone(cfg)


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
def test_every_parameter_gets_a_gradient(cfg: CfgNode, quantizer: str) -> None:
    cfg.MODEL.BINARY.QUANTIZER = quantizer
    backbone = build_backbone(cfg)
    features = backbone(torch.randn(2, 3, 32, 32))
    sum(feature.square().sum() for feature in features.values()).backward()
    missing = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert missing == []


@pytest.mark.parametrize("norm", ["BN", "FrozenStatsBN"])
def test_freeze_at_freezes_the_stem_and_the_first_stage_only(cfg: CfgNode, norm: str) -> None:
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    cfg.MODEL.BINARY.NORM = norm
    bottom_up = build_backbone(cfg).bottom_up
    frozen = {name.split(".")[0] for name, p in bottom_up.named_parameters() if not p.requires_grad}
    free = {name.split(".")[0] for name, p in bottom_up.named_parameters() if p.requires_grad}
    assert (frozen, free) == ({"stem", "res2"}, {"res3", "res4"})
    norms = {"stem": FrozenBatchNorm2d, "res2": FrozenBatchNorm2d}
    live = FrozenStatsBatchNorm2d if norm == "FrozenStatsBN" else nn.BatchNorm2d
    for name, module in bottom_up.named_modules():
        if hasattr(module, "running_mean"):
            assert type(module) is norms.get(name.split(".")[0], live)


def test_the_norm_is_that_of_stem_blocks_and_shortcuts(cfg: CfgNode) -> None:
    cfg.MODEL.BINARY.NORM = "FrozenStatsBN"
    backbone = build_backbone(cfg).train()
    buffers = {n: b.clone() for n, b in backbone.named_buffers() if "running" in n}
    # Stem, and a block and a shortcut in each of three stages.
    assert len(buffers) == 2 * 7
    backbone(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(b, buffers[n]) for n, b in backbone.named_buffers() if n in buffers)
    cfg.MODEL.BINARY.NORM = "Batch"
    with pytest.raises(ValueError, match="'Batch' .MODEL.BINARY.NORM"):
        build_backbone(cfg)


def test_the_real_valued_twin_has_the_same_keys_and_shapes(cfg: CfgNode) -> None:
    binary = build_backbone(cfg).state_dict()
    twin = build_backbone(
        changed(cfg, MODEL__BINARY__WEIGHTS=False, MODEL__BINARY__ACTIVATIONS=False)
    )
    assert {k: v.shape for k, v in binary.items()} == {
        k: v.shape for k, v in twin.state_dict().items()
    }
    # Without any sign, and with the initial statistics, a doubled image doubles every level.
    twin.eval()
    x = torch.randn(1, 3, 32, 32)
    doubled, single = twin(2 * x), twin(x)
    for name, feature in single.items():
        torch.testing.assert_close(doubled[name], 2 * feature)


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
def test_a_1_bit_network_learns_to_tell_images_apart(cfg: CfgNode, quantizer: str) -> None:
    cfg.MODEL.BINARY.QUANTIZER = quantizer
    cfg.MODEL.FPN.NORM = "BN"
    backbone, images = build_backbone(cfg), torch.randn(6, 3, 32, 32)
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        logits = backbone(images)["p4"].mean((2, 3))
        loss = F.cross_entropy(5 * logits, torch.arange(6))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]

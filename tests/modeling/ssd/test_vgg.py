from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from helpers import recipes
from torch import nn

from distill.modeling.binary import BinaryBlock, BinaryConv2d
from distill.modeling.ssd import L2Norm


@pytest.fixture
def ssd300() -> Callable[[str], Backbone]:
    """Builds a backbone of full size without storage: shapes only."""

    def build(name: str) -> Backbone:
        with torch.device("meta"):
            return build_backbone(recipes.load(recipes.ROOT / "configs" / "voc" / f"{name}.yaml"))

    return build


def shapes(features: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(feature.shape[1:]) for name, feature in features.items()}


def test_l2norm_gives_every_position_the_length_of_its_scale() -> None:
    norm = L2Norm(2)
    x = torch.stack([torch.tensor([3.0, 0]), torch.tensor([4.0, 0])])[None, :, :, None]
    x.requires_grad_(True)
    out = norm(x)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([12.0, 16.0]))
    assert torch.all(out[0, :, 1, 0] == 0)
    out.sum().backward()
    assert x.grad.isfinite().all()
    torch.testing.assert_close(norm.scale.grad, torch.tensor([0.6, 0.8]))


def test_l2norm_of_large_half_precision_maps_does_not_overflow() -> None:
    out = L2Norm(4)(torch.full((1, 4, 1, 1), 6e4, dtype=torch.float16))
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.flatten(), torch.full((4,), 10.0, dtype=torch.float16))


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd300_bivgg16"])
def test_ssd300_has_its_six_levels(ssd300, name: str) -> None:
    backbone = ssd300(name)
    features = backbone(torch.empty(1, 3, 300, 300, device="meta"))
    assert shapes(features) == {
        "conv4_3": (512, 38, 38),
        "fc7": (1024, 19, 19),
        "extra1": (512, 10, 10),
        "extra2": (256, 5, 5),
        "extra3": (256, 3, 3),
        "extra4": (256, 1, 1),
    }
    specs = backbone.output_shape()
    assert [spec.stride for spec in specs.values()] == [8, 16, 32, 64, 100, 300]
    assert [spec.channels for spec in specs.values()] == [512, 1024, 512, 256, 256, 256]


def test_the_real_backbone_is_vgg16_with_its_layers_names(ssd300) -> None:
    vgg = ssd300("ssd300_vgg16").vgg
    convs = [name for name, layer in vgg.named_children() if "conv" in name]
    stages = zip((2, 2, 3, 3, 3), range(1, 6), strict=True)
    names = [f"conv{stage}_{i}" for convs, stage in stages for i in range(1, convs + 1)]
    assert convs == [*names, "conv6", "conv7"]
    assert all(vgg.get_submodule(name).bias is not None for name in convs)
    assert vgg.conv6.dilation == (6, 6) and vgg.conv6.weight.shape == (1024, 512, 3, 3)
    # VGG16's 14,714,688 up to conv5_3, then conv6 and conv7.
    count = sum(p.numel() for p in vgg.parameters())
    assert count == 14_714_688 + 512 * 1024 * 9 + 1024 + 1024 * 1024 + 1024


def test_which_layers_of_the_binary_backbone_are_1_bit(ssd300) -> None:
    backbone = ssd300("ssd300_bivgg16")
    kinds = {
        name: any(isinstance(module, BinaryConv2d) for module in layer.modules())
        for name, layer in backbone.vgg.named_children()
    }
    assert [name for name, binary in kinds.items() if not binary] == ["conv1_1", "pool5", "conv7"]
    assert not any(isinstance(module, BinaryConv2d) for module in backbone.extras.modules())
    assert isinstance(backbone.vgg.conv1_1.norm, nn.BatchNorm2d)
    pools = [getattr(backbone.vgg, f"pool{i}") for i in range(1, 5)]
    assert all(isinstance(pool, BinaryBlock) and pool.stride == 2 for pool in pools)
    bits = sum(m.weight.numel() for m in backbone.modules() if isinstance(m, BinaryConv2d))
    # Each pooling goes to the channels of its stage, which the convolutions of the stage then keep.
    stages = [(64, 64, 1), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3)]
    convs = sum(count * width * width for _, width, count in stages)
    pools = sum(before * width for before, width, _ in stages[1:])
    assert bits == 9 * (convs + pools + 512 * 1024)


def test_the_binary_backbone_takes_its_precision_from_the_config(ssd_cfg) -> None:
    changes = {"MODEL__BACKBONE__NAME": "build_ssd_bivgg_backbone", "MODEL__BINARY__WEIGHTS": False}
    backbone = build_backbone(ssd_cfg(**changes, MODEL__BINARY__NORM="FrozenStatsBN"))
    convs = [module for module in backbone.modules() if isinstance(module, BinaryConv2d)]
    assert convs and not any(conv.binarize_weights for conv in convs)
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("norm", ["", "BN"])
@pytest.mark.parametrize("name", ["build_ssd_vgg_backbone", "build_ssd_bivgg_backbone"])
def test_every_parameter_gets_a_gradient(ssd_cfg, name: str, norm: str) -> None:
    cfg = ssd_cfg(MODEL__BACKBONE__NAME=name, MODEL__SSD__NORM=norm, MODEL__BINARY__NORM=norm)
    backbone = build_backbone(cfg)
    features = backbone(torch.randn(2, 3, 64, 64))
    assert shapes(features) == {"conv4_3": (8, 8, 8), "fc7": (12, 4, 4), "extra1": (8, 2, 2)}
    sum(feature.square().sum() for feature in features.values()).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def check(cfg: CfgNode, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg)


def test_stages_that_are_not_five_are_refused(ssd_cfg) -> None:
    message = "VGG_CHANNELS .* and VGG_CONVS .* five entries"
    check(ssd_cfg(MODEL__SSD__VGG_CONVS=(2, 2, 2, 2)), message)
    check(ssd_cfg(MODEL__SSD__VGG_CONVS=(2, 2, 2, 2, 0)), message)


def test_extra_levels_that_are_described_in_part_are_refused(ssd_cfg) -> None:
    check(ssd_cfg(MODEL__SSD__EXTRA_STRIDES=(32, 64)), "EXTRA_STRIDES must have as many entries")


def test_an_image_too_small_for_the_extra_levels_is_refused(ssd_cfg) -> None:
    cfg = ssd_cfg(MODEL__SSD__IMAGE_SIZE=32, MODEL__SSD__EXTRA_PADDINGS=(0,))
    check(cfg, "IMAGE_SIZE 32 leaves no cell for the level extra1")

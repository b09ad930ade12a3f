"""The blocks of 1-bit networks: their formula, their sizes, and extreme inputs."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn
from torch.nn import functional as F

from distill.modeling.binary import BinaryBlock, BinaryConvPReLU, BinarySettings
from distill.modeling.norm import FrozenStatsBatchNorm2d


def block(in_channels: int = 4, out_channels: int = 4, **arguments: object) -> BinaryBlock:
    return BinaryBlock(in_channels, out_channels, **{"settings": BinarySettings(), **arguments})


def randomize(module: nn.Module) -> None:
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)


def test_a_block_is_one_convolution_with_its_own_shortcut() -> None:
    layer = block().eval()
    randomize(layer)
    x = torch.randn(2, 4, 5, 6)
    y = layer.norm(layer.conv(x + layer.shift.bias[:, None, None])) + x
    act = layer.activation
    y = F.prelu(y + act.shift.bias[:, None, None], act.prelu.weight)
    torch.testing.assert_close(layer(x), y + act.offset.bias[:, None, None])


def test_a_shortcut_that_strides_is_pooled_projected_and_normalized() -> None:
    layer = block(4, 6, stride=2).eval()
    randomize(layer)
    layer.norm.weight.data.zero_()
    layer.norm.bias.data.zero_()
    x = torch.randn(2, 4, 4, 6)
    _, conv, norm = layer.shortcut
    assert conv.bias is None and type(conv) is nn.Conv2d
    expected = layer.activation(norm(F.conv2d(F.avg_pool2d(x, 2), conv.weight)))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 3), (7, 10), (9, 5), (16, 17)])
@pytest.mark.parametrize("dilation", [1, 3])
def test_both_branches_round_odd_sizes_up(height: int, width: int, dilation: int) -> None:
    layer = block(4, 4, stride=2, dilation=dilation).eval()
    size = ((height + 1) // 2, (width + 1) // 2)
    assert layer(torch.randn(1, 4, height, width)).shape[-2:] == size
    same = block(4, 6, dilation=dilation).eval()
    assert same(torch.randn(1, 4, height, width)).shape == (1, 6, height, width)


def test_a_change_of_channels_alone_is_projected_without_pooling() -> None:
    layer = block(4, 6)
    assert [type(module) for module in layer.shortcut] == [nn.Conv2d, nn.BatchNorm2d]


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
@pytest.mark.parametrize("norm", ["BN", "FrozenStatsBN", ""])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_parameter_gets_a_gradient(quantizer: str, norm: str, stride: int) -> None:
    layer = block(stride=stride, norm=norm, settings=BinarySettings(quantizer=quantizer))
    layer(torch.randn(2, 4, 6, 6)).square().sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is None] == []
    assert (layer.conv.bias is not None) == (not norm)


def test_a_learned_scale_begins_at_the_mean_of_the_initial_weights() -> None:
    settings = BinarySettings(quantizer="learned")
    for layer in (block(settings=settings), BinaryConvPReLU(4, 4, settings=settings)):
        torch.testing.assert_close(
            layer.conv.scale.detach(), layer.conv.weight.abs().mean((1, 2, 3)).detach()
        )


@pytest.mark.parametrize("value", [0.0, -1e4, 1e4])
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_constant_maps_and_dead_channels_stay_finite(value: float, slope: float) -> None:
    layers = nn.Sequential(block(4, 6, stride=2), block(6, 6))
    for layer in layers:
        layer.activation.prelu.weight.data.fill_(slope)
        layer.activation.shift.bias.data.fill_(-100.0)
    x = torch.full((2, 4, 5, 5), value, requires_grad=True)
    output = layers(x)
    output.square().sum().backward()
    gradients = [x.grad, *(p.grad for p in layers.parameters())]
    assert all(tensor.isfinite().all() for tensor in (output, *gradients))


@pytest.mark.parametrize("norm", ["BN", "FrozenStatsBN"])
def test_detectron2_freezes_a_block_whole(norm: str) -> None:
    layer = block(4, 6, stride=2, norm=norm, settings=BinarySettings(quantizer="learned"))
    x = torch.randn(2, 4, 6, 6)
    before = layer.eval()(x)
    layer.train().freeze()
    assert not any(p.requires_grad for p in layer.parameters())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in layer.modules())
    assert type(layer.norm) is type(layer.shortcut.norm) is FrozenBatchNorm2d
    torch.testing.assert_close(layer(x), before)


def test_the_norm_reaches_block_and_shortcut() -> None:
    layer = block(4, 6, stride=2, norm="FrozenStatsBN")
    assert type(layer.norm) is type(layer.shortcut.norm) is FrozenStatsBatchNorm2d
    with pytest.raises(ValueError, match="'Batch'"):
        block(norm="Batch")


@pytest.mark.parametrize("norm", ["", "BN"])
def test_a_convolution_of_the_neck_has_either_bias_or_norm_then_prelu(norm: str) -> None:
    layer = BinaryConvPReLU(4, 6, norm=norm, settings=BinarySettings()).eval()
    randomize(layer)
    assert (layer.conv.bias is None) == bool(norm)
    x = torch.randn(1, 4, 5, 7)
    expected = F.prelu(layer.norm(layer.conv(x)), layer.prelu.weight)
    torch.testing.assert_close(layer(x), expected)
    assert expected.shape == (1, 6, 5, 7)

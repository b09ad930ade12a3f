"""Adapters between the channels of student and teacher."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.methods.adapters import build_adapters, near_zero, variance_preserving
from distill.views.levels import Level

SAME = (Level("p2", "p2", 4, 8, 8), Level("p3", "res3", 8, 8, 8))
OTHER = (Level("p2", "p2", 4, 8, 12),)
WIDE = (Level("p2", "p2", 4, 64, 96),)


def build(kind: str, levels: tuple[Level, ...], *, always: bool = True) -> nn.ModuleDict:
    return build_adapters(kind, levels, "KEY", near_zero, always=always)


@pytest.mark.parametrize(("kind", "size"), [("conv3x3", 3), ("conv1x1", 1)])
def test_a_convolution_brings_the_channels_and_keeps_the_size(kind: str, size: int) -> None:
    adapters = build(kind, OTHER)
    assert list(adapters) == ["p2"]
    assert adapters["p2"].kernel_size == (size, size)
    assert adapters["p2"](torch.zeros(1, 8, 5, 7)).shape == (1, 12, 5, 7)


def test_levels_have_an_adapter_each_under_the_students_name() -> None:
    adapters = build("conv3x3", SAME)
    assert list(adapters) == ["p2", "p3"]
    assert adapters["p2"].weight is not adapters["p3"].weight


def test_weights_start_near_zero_where_asked_for_and_biases_at_zero() -> None:
    layer = build_adapters("conv3x3", WIDE, "KEY", near_zero, always=True)["p2"]
    assert layer.weight.std().item() == pytest.approx(1e-4, rel=0.05)
    assert abs(layer.weight.mean().item()) < 1e-5
    assert not layer.bias.any()


@pytest.mark.parametrize("kind", ["conv3x3", "conv1x1"])
def test_weights_that_preserve_the_variance_do(kind: str) -> None:
    layer = build_adapters(kind, WIDE, "KEY", variance_preserving, always=True)["p2"]
    adapted = layer(torch.randn(2, 64, 40, 40)).detach()
    assert adapted[..., 1:-1, 1:-1].std().item() == pytest.approx(1, rel=0.1)
    assert not layer.bias.any()


def test_equal_channels_get_a_layer_only_where_the_method_says_always() -> None:
    adapters = build("conv1x1", (*SAME, Level("p4", "p4", 16, 8, 12)), always=False)
    assert [type(x) for x in adapters.values()] == [nn.Identity, nn.Identity, nn.Conv2d]
    assert all(type(x) is nn.Conv2d for x in build("conv1x1", SAME).values())


def test_none_leaves_the_maps_as_they_are_and_has_no_parameters() -> None:
    adapters = build("none", SAME)
    maps = torch.randn(1, 8, 3, 3)
    assert all(isinstance(x, nn.Identity) for x in adapters.values())
    assert torch.equal(adapters["p3"](maps), maps) and not list(adapters.parameters())


def test_none_is_refused_where_channels_differ() -> None:
    with pytest.raises(ValueError, match='KEY is "none", but level p2 has 8 .* and 12 .*conv1x1'):
        build("none", OTHER)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match='KEY is "linear"; choose one of conv3x3, conv1x1, none'):
        build("linear", SAME)

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from distill.deploy import PackedBinaryConv2d
from distill.deploy.packed_layers import (
    binary_layers,
    check_two_values,
    packed_layer,
    packed_state,
    replace_layers,
    unpacked_layer,
    without_binary_weights,
)
from distill.modeling.binary import BinaryConv2d


def _layer(**arguments) -> BinaryConv2d:
    layer = BinaryConv2d(5, 7, 3, **{"padding": 1, **arguments})
    with torch.no_grad():
        layer.weight.normal_()
        layer.weight[0, 0] = 0
        layer.weight[1] = 0
        if layer.scale is not None:
            layer.scale.normal_()
    return layer.eval()


def _packed(layer: BinaryConv2d) -> PackedBinaryConv2d:
    packed = packed_layer(layer).eval()
    packed.load_state_dict(packed_state(layer))
    return packed


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
@pytest.mark.parametrize("activations", [True, False])
@pytest.mark.parametrize(
    "shape",
    [{}, {"bias": True, "stride": 2}, {"padding": (2, 0)}, {"padding": 6, "dilation": 6}],
)
def test_packed_and_unpacked_again_it_is_the_same_convolution(quantizer, activations, shape):
    layer = _layer(quantizer=quantizer, binarize_activations=activations, **shape)
    packed = _packed(layer)
    x = torch.randn(2, 5, 9, 11)
    expected = layer(x)
    assert torch.equal(packed(x), expected)
    unpacked = unpacked_layer(packed)
    assert type(unpacked) is BinaryConv2d
    assert torch.equal(unpacked(x), expected)
    assert torch.equal(unpacked.alpha(), layer.alpha())


def test_only_bits_scales_and_bias_are_held():
    packed = _packed(_layer(bias=True))
    held = {name: (x.dtype, tuple(x.shape)) for name, x in packed.state_dict().items()}
    assert held == {
        "packed_weight": (torch.uint8, (7, 6)),
        "alphas": (torch.float32, (7,)),
        "precision": (torch.uint8, (2,)),
        "bias": (torch.float32, (7,)),
    }
    assert [name for name, _ in packed.named_parameters()] == ["bias"]


def test_no_graph_keeps_the_unpacked_weights():
    x = torch.randn(1, 5, 8, 8, requires_grad=True)
    assert not _packed(_layer(bias=True))(x).requires_grad


def test_training_is_refused():
    with pytest.raises(ValueError, match="A packed detector can't be trained: call its eval()"):
        _packed(_layer()).train()(torch.randn(1, 5, 8, 8))


def test_intact_layers_hold_two_values():
    for arguments in ({}, {"quantizer": "learned"}, {"binarize_activations": False}):
        check_two_values("conv", _layer(**arguments))


def test_real_weights_are_refused_by_the_layers_name():
    with pytest.raises(ValueError, match=r"^res2\.conv has real weights .*MODEL\.BINARY\.WEIGHTS"):
        check_two_values("res2.conv", _layer(binarize_weights=False))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_channel_that_is_not_finite_is_refused(value):
    layer = _layer()
    layer.weight.data[3, 2, 1, 1] = value
    with pytest.raises(ValueError, match=r"^Output channel 3 of res2\.conv holds other values"):
        check_two_values("res2.conv", layer)


def test_a_third_value_is_refused():
    class Ternary(BinaryConv2d):
        def quantized_weight(self) -> Tensor:
            return super().quantized_weight() * (self.weight != 0)

    layer = Ternary(2, 3, 1)
    check_two_values("conv", layer)
    layer.weight.data[2, 0] = 0
    with pytest.raises(ValueError, match="Output channel 2 of conv holds other values"):
        check_two_values("conv", layer)


def test_a_layer_with_two_names_is_replaced_by_one():
    shared = _layer()
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": shared, "c": nn.Conv2d(1, 1, 1)})
    replace_layers(model.eval(), packed_layer)
    assert isinstance(model["b"], PackedBinaryConv2d)
    assert model["a"][0] is model["b"] and not model["b"].training
    assert list(binary_layers(model)) == ["a.0"]
    assert type(model["c"]) is nn.Conv2d


def test_binary_weights_get_no_memory_only_while_asked_for():
    with pytest.raises(KeyError), without_binary_weights():
        layer, real = BinaryConv2d(2, 3, 1, bias=True, quantizer="learned"), nn.Conv2d(2, 3, 1)
        assert layer.weight.is_meta and layer.weight.requires_grad
        assert not (layer.bias.is_meta or layer.precision.is_meta or real.weight.is_meta)
        raise KeyError
    assert not BinaryConv2d(2, 3, 1).weight.is_meta

"""The 1-bit convolution: values, gradients, and checkpoints of other kinds."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.config import get_cfg
from torch import Tensor, nn
from torch.nn import functional as F

from distill import add_distill_config
from distill.modeling.binary import BinaryConv2d, BinarySettings, RPReLU

LOGGER = "distill.modeling.binary.layers"


def conv(**arguments: object) -> BinaryConv2d:
    return BinaryConv2d(2, 3, 3, padding=1, **arguments)


def set_weight(layer: BinaryConv2d, weight: Tensor) -> None:
    layer.weight.data.copy_(weight)
    layer.reset_scale()


def test_padded_cells_are_plus_one() -> None:
    layer = BinaryConv2d(1, 1, 3, padding=1)
    set_weight(layer, torch.full((1, 1, 3, 3), 0.5))
    # The only cell is -1, the eight around it +1: 0.5 * (8 - 1).
    assert layer(torch.full((1, 1, 1, 1), -0.3)).item() == 3.5
    # A zero input is +1 everywhere.
    assert layer(torch.zeros(1, 1, 1, 1)).item() == 4.5


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
def test_it_convolves_signs_with_two_values_per_channel(quantizer: str) -> None:
    layer = BinaryConv2d(2, 3, 3, 2, (1, 2), 2, bias=True, quantizer=quantizer)
    x = torch.randn(2, 2, 9, 11)
    sign = F.pad(torch.where(x < 0, -1.0, 1.0), (2, 2, 1, 1), value=1.0)
    alpha = layer.weight.abs().mean((1, 2, 3), keepdim=True)
    weight = torch.where(layer.weight < 0, -alpha, alpha)
    expected = F.conv2d(sign, weight, layer.bias, stride=2, dilation=2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
def test_the_weights_in_use_are_plus_and_minus_alpha(quantizer: str) -> None:
    layer = conv(quantizer=quantizer)
    layer.weight.data[:, 0, 0, 0] = 0.0
    layer.reset_scale()
    if layer.scale is not None:
        layer.scale.data[1].neg_()
    weight, alpha = layer.quantized_weight().detach(), layer.alpha().detach()
    assert (alpha > 0).all()
    assert torch.equal(weight.abs(), alpha.reshape(-1, 1, 1, 1).expand_as(weight))
    assert torch.equal(weight[:, 0, 0, 0], alpha)


def test_without_1_bit_weights_and_inputs_it_is_a_plain_convolution() -> None:
    layer = conv(bias=True, binarize_weights=False, binarize_activations=False)
    x = torch.randn(2, 2, 5, 7)
    assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
    assert torch.equal(layer.quantized_weight(), layer.weight)
    with pytest.raises(ValueError, match="MODEL.BINARY.WEIGHTS"):
        layer.alpha()


def test_inputs_and_weights_are_binarized_one_by_one() -> None:
    x = torch.randn(1, 2, 5, 5)
    inputs = conv(binarize_weights=False)
    sign = F.pad(torch.where(x < 0, -1.0, 1.0), (1, 1, 1, 1), value=1.0)
    torch.testing.assert_close(inputs(x), F.conv2d(sign, inputs.weight))
    weights = conv(binarize_activations=False)
    torch.testing.assert_close(weights(x), F.conv2d(x, weights.quantized_weight(), padding=1))


def test_an_unknown_quantizer_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="'ternary' .MODEL.BINARY.QUANTIZER. .* mean, learned"):
        conv(quantizer="ternary")


@pytest.mark.parametrize("weights", [True, False])
def test_every_parameter_has_a_use(weights: bool) -> None:
    layer = conv(bias=True, quantizer="learned", binarize_weights=weights)
    assert (layer.scale is not None) == weights
    layer(torch.randn(1, 2, 4, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_the_reconstruction_loss_pulls_weights_to_their_1_bit_values() -> None:
    layer = conv(quantizer="learned", reconstruction_weight=0.5)
    layer.weight.data[0, 0, 0, 0] = 0.0
    layer.scale.data.copy_(torch.tensor([-0.5, 0.1, 2.0]))
    losses = layer.auxiliary_losses()
    assert list(losses) == ["loss_binary_reconstruction"]
    error = (layer.weight - layer.quantized_weight()).detach()
    torch.testing.assert_close(losses["loss_binary_reconstruction"], 0.25 * error.square().sum())
    losses["loss_binary_reconstruction"].backward()
    torch.testing.assert_close(layer.weight.grad, 0.5 * error)
    sign = torch.where(layer.weight < 0, -1.0, 1.0)
    to_scale = -0.5 * (error * sign).sum((1, 2, 3)) * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(layer.scale.grad, to_scale)


def test_only_learned_and_trained_weights_have_a_reconstruction_loss() -> None:
    frozen = conv(quantizer="learned").requires_grad_(False)
    others = (conv(), conv(quantizer="learned", binarize_weights=False), frozen)
    assert [layer.auxiliary_losses() for layer in others] == [{}, {}, {}]


def test_a_checkpoint_without_scales_gives_the_loaded_weights_mean() -> None:
    trained, layer = conv(), conv(quantizer="learned")
    layer.load_state_dict(trained.state_dict())
    torch.testing.assert_close(layer.scale, trained.alpha())
    assert torch.equal(layer.quantized_weight(), trained.quantized_weight())


def test_superfluous_scales_are_dropped_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    trained = nn.Sequential(conv(quantizer="learned"), conv(quantizer="learned"))
    layers = nn.Sequential(conv(), conv())
    with caplog.at_level(logging.INFO, LOGGER):
        layers.load_state_dict(trained.state_dict())
    assert torch.equal(layers[1].weight, trained[1].weight)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "The checkpoint's learned scales of 1-bit weights are dropped"
    ]


def test_scales_of_the_same_quantizer_load() -> None:
    trained, layer = conv(quantizer="learned"), conv(quantizer="learned")
    trained.scale.data.mul_(-3)
    layer.load_state_dict(trained.state_dict())
    assert torch.equal(layer.scale, trained.scale)


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        ((False, True), (True, True), "with real-valued weights, which are 1-bit now:"),
        ((True, True), (True, False), "with 1-bit activations, which are real-valued now:"),
        (
            (False, False),
            (True, True),
            "with real-valued weights, which are 1-bit now and with real-valued activations, "
            "which are 1-bit now:",
        ),
    ],
)
def test_one_warning_per_load_names_the_precision_that_differs(
    before: tuple[bool, bool],
    now: tuple[bool, bool],
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained, layers = (
        nn.Sequential(
            *[conv(binarize_weights=weights, binarize_activations=inputs) for _ in range(2)]
        )
        for weights, inputs in (before, now)
    )
    for load in (1, 2):
        layers.load_state_dict(trained.state_dict())
        assert len(caplog.records) == load
        assert text in caplog.records[-1].message
    assert torch.equal(layers[1].weight, trained[1].weight)
    # The layer's own precision stays, and so goes into its own checkpoints.
    assert layers.state_dict()["0.precision"].tolist() == list(now)


def test_the_same_or_an_unknown_precision_loads_silently(caplog: pytest.LogCaptureFixture) -> None:
    state = conv().state_dict()
    conv().load_state_dict(state)
    conv(binarize_weights=False).load_state_dict({"weight": state["weight"]})
    assert caplog.records == []


def test_missing_weights_are_still_reported() -> None:
    missing, unexpected = conv(quantizer="learned").load_state_dict({"x": None}, strict=False)
    assert (sorted(missing), unexpected) == (["scale", "weight"], ["x"])


def test_dead_channels_and_constant_maps_stay_finite() -> None:
    layer = nn.Sequential(RPReLU(2), conv(quantizer="learned"), RPReLU(3))
    layer[0].prelu.weight.data.zero_()
    layer[1].weight.data.zero_()
    layer[1].reset_scale()
    x = torch.full((1, 2, 4, 4), -1e4, requires_grad=True)
    output = layer(x)
    output.sum().backward()
    gradients = [x.grad, *(p.grad for p in layer.parameters())]
    assert all(tensor.isfinite().all() for tensor in (output, *gradients))


def test_under_autocast_types_stay_low_and_the_scale_exact() -> None:
    layer = nn.Sequential(RPReLU(2), conv(quantizer="learned"), RPReLU(3))
    x = torch.randn(1, 2, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}
    assert layer[1].quantized_weight().dtype == torch.float32


def test_settings_come_from_the_config() -> None:
    cfg = get_cfg()
    add_distill_config(cfg)
    assert BinarySettings.from_config(cfg) == BinarySettings(True, True, "mean", 1e-4)
    changes = {"WEIGHTS": False, "ACTIVATIONS": False, "QUANTIZER": "learned"}
    cfg.merge_from_list([x for k, v in changes.items() for x in (f"MODEL.BINARY.{k}", v)])
    cfg.MODEL.BINARY.RECONSTRUCTION_WEIGHT = 0.5
    layer = BinarySettings.from_config(cfg).conv(2, 3, 3, stride=2, bias=True)
    assert not (layer.binarize_weights or layer.binarize_activations)
    assert (layer.quantizer, layer.reconstruction_weight) == ("learned", 0.5)
    assert layer.stride == (2, 2) and layer.bias is not None

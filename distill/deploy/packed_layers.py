"""1-bit convolutions that hold one bit a weight."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from distill.deploy.packing import pack_signs, packed_shape, unpack_signs
from distill.modeling.binary import BinaryConv2d

__all__ = [
    "PackedBinaryConv2d",
    "binary_layers",
    "check_two_values",
    "packed_layer",
    "packed_state",
    "replace_layers",
    "unpacked_layer",
    "without_binary_weights",
]


class PackedBinaryConv2d(BinaryConv2d):
    """A 1-bit convolution that holds its weights as bits, for evaluation only.

    Each forward unpacks the weights, convolves and drops them; no gradient passes, as it would
    keep the unpacked weights alive. There is no ``weight``.

    Attributes:
        packed_weight: (Cout, ceil(Cin * kh * kw / 8)) uint8, see :func:`pack_signs`.
        alphas: (Cout,) the scales of the weights.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Builds the layer, all of its weights zero.

        Args:
            args: as of BinaryConv2d.
            kwargs: likewise; the quantizer and the precision of the weights are the layer's own.
        """
        with torch.device("meta"):
            super().__init__(*args, **kwargs)
        shape = self.weight.shape
        del self.weight
        self.weight_shape = shape
        self.register_buffer("packed_weight", torch.zeros(packed_shape(shape), dtype=torch.uint8))
        self.register_buffer("alphas", torch.zeros(shape[0]))
        precision = torch.tensor([True, self.binarize_activations], dtype=torch.uint8)
        self.register_buffer("precision", precision)
        if self.bias is not None:
            self.bias = nn.Parameter(torch.zeros(shape[0]))

    def alpha(self) -> Tensor:
        """(Cout,), the scales of the weights."""
        return self.alphas

    def quantized_weight(self) -> Tensor:
        """(Cout, Cin, kh, kw), the weights in float32; made anew by every call."""
        return unpack_signs(self.packed_weight, self.alphas, self.weight_shape)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Convolves (N, Cin, H, W) into (N, Cout, H', W').

        Raises:
            ValueError: if the layer is in training mode.
        """
        if self.training:
            raise ValueError(
                "A packed detector can't be trained: call its eval(), or load it with "
                "load_packed(path, unpack=True)."
            )
        return super().forward(x)


def binary_layers(model: nn.Module) -> dict[str, BinaryConv2d]:
    """The 1-bit convolutions of a network by name, packed or not."""
    return {name: m for name, m in model.named_modules() if isinstance(m, BinaryConv2d)}


def check_two_values(name: str, layer: BinaryConv2d) -> None:
    """Checks that what a layer convolves with is alpha or -alpha in each output channel.

    Args:
        name: of the layer, for the message.
        layer: the layer.

    Raises:
        ValueError: if a weight is another value, or not a finite one.
    """
    if not layer.binarize_weights:
        raise ValueError(
            f"{name} has real weights and can't be packed: set MODEL.BINARY.WEIGHTS True and train "
            "with it, or export with --format plain."
        )
    alpha = layer.alpha().detach().view(-1, 1, 1, 1)
    amiss = (layer.quantized_weight().detach().abs() != alpha) | ~alpha.isfinite()
    if amiss.any():
        channel = int(amiss.flatten(1).any(1).int().argmax())
        raise ValueError(
            f"Output channel {channel} of {name} holds other values than alpha and -alpha, or "
            "alpha is not finite: export a checkpoint whose 1-bit layers are intact."
        )


def replace_layers(model: nn.Module, replace: Callable[[BinaryConv2d], BinaryConv2d]) -> None:
    """Replaces each 1-bit convolution inside a network, wherever it is held.

    Args:
        model: the network, changed in place.
        replace: what takes a layer's place; called once for each layer.
    """
    replaced: dict[BinaryConv2d, BinaryConv2d] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, BinaryConv2d):
                if child not in replaced:
                    replaced[child] = replace(child).train(child.training)
                setattr(parent, name, replaced[child])


def packed_layer(layer: BinaryConv2d) -> PackedBinaryConv2d:
    """A packed layer like a given one, without its weights."""
    return PackedBinaryConv2d(**_arguments(layer))


def packed_state(layer: BinaryConv2d) -> dict[str, Tensor]:
    """The state of the packed layer that equals a given one.

    Args:
        layer: a layer that :func:`check_two_values` accepts.
    """
    state = {
        "packed_weight": pack_signs(layer.quantized_weight()),
        "alphas": layer.alpha(),
        "precision": layer.precision,
        "bias": layer.bias,
    }
    return {name: value.detach() for name, value in state.items() if value is not None}


def unpacked_layer(layer: BinaryConv2d) -> BinaryConv2d:
    """An ordinary layer that equals a packed one.

    Its quantizer is the learned one: only that gives back each alpha exactly, where the mean of
    |w| over equal weights may be rounded.
    """
    unpacked = BinaryConv2d(**_arguments(layer), quantizer="learned")
    with torch.no_grad():
        unpacked.weight.copy_(layer.quantized_weight())
        unpacked.scale.copy_(layer.alpha())
        if layer.bias is not None:
            unpacked.bias.copy_(layer.bias)
    return unpacked


@contextlib.contextmanager
def without_binary_weights() -> Iterator[None]:
    """While active, 1-bit convolutions are built without memory for their weights.

    Only ``weight`` is left out (on the meta device); everything else of a detector is real, also
    what no state dict holds and so no file could restore, such as anchors.
    """

    def drop(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        if isinstance(module, BinaryConv2d) and name == "weight":
            return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        return None

    handle = register_module_parameter_registration_hook(drop)
    try:
        yield
    finally:
        handle.remove()


def _arguments(layer: BinaryConv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    return {
        **{name: getattr(layer, name) for name in names},
        "bias": layer.bias is not None,
        "binarize_activations": layer.binarize_activations,
        "reconstruction_weight": layer.reconstruction_weight,
    }

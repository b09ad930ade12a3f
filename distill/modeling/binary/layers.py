"""The 1-bit convolution and its settings.

Sources: ReActNet (arXiv 2003.03488), IDa-Det (arXiv 2210.03477).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from distill.modeling.auxiliary_losses import AuxiliaryLosses
from distill.modeling.binary.functional import (
    binarize_activation,
    binarize_weight,
    binary_sign,
    mean_scale,
)

__all__ = ["BinaryConv2d", "BinarySettings"]

_QUANTIZERS = ("mean", "learned")


@dataclass(frozen=True)
class BinarySettings:
    """What the 1-bit layers of a network have in common.

    Attributes:
        weights: weights are 1-bit.
        activations: inputs are 1-bit.
        quantizer: the scale of the weights, ``mean`` or ``learned``.
        reconstruction_weight: factor mu of the learned quantizer's reconstruction loss.
    """

    weights: bool = True
    activations: bool = True
    quantizer: str = "mean"
    reconstruction_weight: float = 1e-4

    @classmethod
    def from_config(cls, cfg: CfgNode) -> BinarySettings:
        """The settings from MODEL.BINARY."""
        node = cfg.MODEL.BINARY
        return cls(node.WEIGHTS, node.ACTIVATIONS, node.QUANTIZER, node.RECONSTRUCTION_WEIGHT)

    def conv(
        self, in_channels: int, out_channels: int, kernel_size: int, **shape: Any
    ) -> BinaryConv2d:
        """Builds a convolution with these settings.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            kernel_size: in cells.
            shape: ``stride``, ``padding``, ``dilation`` and ``bias``.
        """
        return BinaryConv2d(
            in_channels,
            out_channels,
            kernel_size,
            **shape,
            quantizer=self.quantizer,
            binarize_weights=self.weights,
            binarize_activations=self.activations,
            reconstruction_weight=self.reconstruction_weight,
        )


class BinaryConv2d(nn.Conv2d, AuxiliaryLosses):
    """A convolution of 1-bit activations, which it binarizes itself, with 1-bit weights.

    Padded cells are +1: zero padding before the sign, whose value at 0 is +1. With real
    activations the padding is 0. The latent real weights are the parameter ``weight``.

    A checkpoint of another precision or quantizer loads: a missing ``scale`` is taken from the
    loaded weights, a superfluous one is dropped, and where weights or activations were trained at
    another precision, one warning per load says so.

    Attributes:
        quantizer: ``mean`` or ``learned``.
        binarize_weights: weights are 1-bit.
        binarize_activations: inputs are 1-bit.
        scale: (Cout,) learned scales, or None unless 1-bit weights have the learned quantizer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = False,
        *,
        quantizer: str = "mean",
        binarize_weights: bool = True,
        binarize_activations: bool = True,
        reconstruction_weight: float = 1e-4,
    ) -> None:
        """Builds the layer.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            kernel_size: in cells.
            stride: in cells.
            padding: in cells, on each side.
            dilation: in cells.
            bias: add a real bias per channel.
            quantizer: ``mean``: the scale is mean|w| per output channel, a constant; ``learned``:
                it is a parameter, which begins there.
            binarize_weights: False keeps the weights real.
            binarize_activations: False keeps the input real.
            reconstruction_weight: factor mu of the learned quantizer's reconstruction loss.

        Raises:
            ValueError: the quantizer is unknown.
        """
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias
        )
        if quantizer not in _QUANTIZERS:
            raise ValueError(
                f"The quantizer {quantizer!r} (MODEL.BINARY.QUANTIZER) is unknown: use one of "
                f"{', '.join(_QUANTIZERS)}."
            )
        self.quantizer = quantizer
        self.binarize_weights = binarize_weights
        self.binarize_activations = binarize_activations
        self.reconstruction_weight = reconstruction_weight
        learned = quantizer == "learned" and binarize_weights
        self.scale = nn.Parameter(mean_scale(self.weight)) if learned else None
        precision = torch.tensor([binarize_weights, binarize_activations], dtype=torch.uint8)
        self.register_buffer("precision", precision)

    def reset_scale(self) -> None:
        """Sets a learned scale to mean|w|; to be called after initializing the weights anew."""
        if self.scale is not None:
            self.scale.data.copy_(mean_scale(self.weight))

    def alpha(self) -> Tensor:
        """The scale of the 1-bit weights in use.

        Returns:
            (Cout,) non-negative.

        Raises:
            ValueError: the weights are real.
        """
        if not self.binarize_weights:
            raise ValueError("Real weights have no scale: set MODEL.BINARY.WEIGHTS to True.")
        return mean_scale(self.weight) if self.scale is None else self.scale.abs()

    def quantized_weight(self) -> Tensor:
        """(Cout, Cin, kh, kw), what the input is convolved with: +-alpha, or the real weights."""
        if not self.binarize_weights:
            return self.weight
        return binarize_weight(self.weight, self.scale)

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """The learned quantizer's reconstruction loss, mu/2 ||w - alpha sign(w)||^2.

        The factor 1/2 makes its gradient mu (w - alpha sign(w)), as the paper's update has it.

        Returns:
            ``loss_binary_reconstruction``; nothing for other quantizers and frozen weights.
        """
        if self.scale is None or not self.weight.requires_grad:
            return {}
        alpha = self.alpha().reshape(-1, 1, 1, 1)
        # The sign is a constant here: it reaches the weights by the loss of the detector alone.
        error = F.mse_loss(self.weight, alpha * binary_sign(self.weight), reduction="sum")
        return {"loss_binary_reconstruction": self.reconstruction_weight / 2 * error}

    def forward(self, x: Tensor) -> Tensor:
        """Convolves (N, Cin, H, W) into (N, Cout, H', W')."""
        weight = self.quantized_weight()
        if not self.binarize_activations:
            return self._conv_forward(x, weight, self.bias)
        x = binarize_activation(x, self.padding)
        return F.conv2d(x, weight, self.bias, self.stride, 0, self.dilation)

    def extra_repr(self) -> str:
        """Adds the precision and the quantizer."""
        bits = f"weights={_kind(self.binarize_weights)}, inputs={_kind(self.binarize_activations)}"
        return f"{super().extra_repr()}, {bits}, quantizer={self.quantizer}"

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        errors = args[-1] if args else kwargs["error_msgs"]
        trained = state_dict.get(f"{prefix}precision")
        if trained is not None:
            self._warn_of_precision(trained, errors)
        # The layer's own precision stays, whatever the file says.
        state_dict[f"{prefix}precision"] = self.precision
        weight = state_dict.get(f"{prefix}weight")
        if self.scale is None:
            if state_dict.pop(f"{prefix}scale", None) is not None:
                _say_once(
                    errors,
                    logging.INFO,
                    "The checkpoint's learned scales of 1-bit weights are dropped: "
                    "MODEL.BINARY.QUANTIZER is 'mean', or the weights are real.",
                )
        elif weight is not None and f"{prefix}scale" not in state_dict:
            state_dict[f"{prefix}scale"] = mean_scale(torch.as_tensor(weight))
            _say_once(
                errors,
                logging.INFO,
                "The checkpoint has no learned scales of 1-bit weights: they begin at mean|w|.",
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _warn_of_precision(self, trained: Tensor, load: list[str]) -> None:
        differences = [
            f"{_kind(before)} {name}, which are {_kind(now)} now"
            for name, before, now in zip(
                ("weights", "activations"),
                torch.as_tensor(trained).tolist(),
                (self.binarize_weights, self.binarize_activations),
                strict=True,
            )
            if before != now
        ]
        if differences:
            _say_once(
                load,
                logging.WARNING,
                f"The checkpoint was trained with {' and with '.join(differences)}: its accuracy "
                "holds only after further training.",
            )


def _kind(binary: bool) -> str:
    return "1-bit" if binary else "real-valued"


class _LastLoad:
    """What was already said about the load of a state dict that is under way."""

    load: list[str] | None = None
    messages: set[str] = set()


def _say_once(load: list[str], level: int, message: str) -> None:
    """Logs a message about the state dict being loaded, unless another layer has.

    Args:
        load: the list of errors that PyTorch hands to every module during one load; it is kept,
            so that its identity tells this load from others.
        level: of the logger.
        message: to log.
    """
    if _LastLoad.load is not load:
        _LastLoad.load, _LastLoad.messages = load, set()
    if message not in _LastLoad.messages:
        _LastLoad.messages.add(message)
        logging.getLogger(__name__).log(level, message)

"""Losses of layers reach a detector's loss dict, and leave detectors without them alone."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.tiny import batch, build, equal, rcnn_cfg, step
from torch import Tensor, nn

from distill.modeling.auxiliary_losses import AuxiliaryLosses, add_auxiliary_losses


class Layer(nn.Module, AuxiliaryLosses):
    """Offers the squared norm of its parameter, and where asked a second loss."""

    def __init__(self, value: float, second: bool = False) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(value))
        self.second = second

    def auxiliary_losses(self) -> dict[str, Tensor]:
        losses = {"loss_square": self.p.square()}
        return {**losses, "loss_cube": self.p**3} if self.second else losses


class Detector(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> dict[str, Tensor] | list[Tensor]:
        return {"loss_cls": x} if self.training else [x]


def test_losses_are_summed_by_name_in_training_only() -> None:
    detector = Detector(Layer(2.0), Layer(3.0, second=True), nn.ReLU())
    add_auxiliary_losses(detector)
    losses = detector(torch.tensor(1.0))
    assert {name: loss.item() for name, loss in losses.items()} == {
        "loss_cls": 1.0,
        "loss_square": 13.0,
        "loss_cube": 27.0,
    }
    losses["loss_square"].backward()
    assert detector.layers[1].p.grad.item() == 6.0
    assert detector.eval()(torch.tensor(1.0)) == [torch.tensor(1.0)]


def test_doing_it_twice_is_doing_it_once() -> None:
    detector = Detector(Layer(2.0))
    add_auxiliary_losses(detector)
    add_auxiliary_losses(detector)
    assert detector(torch.tensor(1.0))["loss_square"].item() == 4.0
    assert len(detector._forward_hooks) == 1


def test_a_copy_reads_its_own_layers() -> None:
    detector = Detector(Layer(2.0))
    add_auxiliary_losses(detector)
    twin = copy.deepcopy(detector)
    twin.layers[0].p.data.fill_(5.0)
    assert twin(torch.tensor(1.0))["loss_square"].item() == 25.0
    assert detector(torch.tensor(1.0))["loss_square"].item() == 4.0


def test_a_detector_without_such_layers_is_left_as_it_is() -> None:
    plain, other = build(rcnn_cfg()).train(), build(rcnn_cfg()).train()
    add_auxiliary_losses(other)
    assert not other._forward_hooks
    assert equal(step(plain, batch()), step(other, batch()))


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
def test_the_learned_quantizer_of_a_1_bit_detector_adds_its_term(quantizer: str) -> None:
    cfg = rcnn_cfg(
        MODEL__BACKBONE__NAME="build_binary_slim_fpn_backbone",
        MODEL__RPN__HEAD_NAME="BinaryRPNHead",
        MODEL__BINARY__QUANTIZER=quantizer,
    )
    model = build(cfg).train()
    plain = step(model, batch())
    add_auxiliary_losses(model)
    losses = step(model, batch())
    term = losses.pop("loss_binary_reconstruction", None)
    assert (term is not None) == (quantizer == "learned")
    assert plain.keys() == losses.keys()
    if term is not None:
        errors = [
            (m.weight - m.quantized_weight()).square().sum()
            for m in model.modules()
            if hasattr(m, "quantized_weight")
        ]
        assert len(errors) == 10
        torch.testing.assert_close(term, 0.5e-4 * sum(errors))

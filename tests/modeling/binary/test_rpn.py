"""The 1-bit RPN head, and detectors made of all 1-bit parts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead, build_rpn_head
from helpers.tiny import batch, build, changed, empty_batch, step, without_gradient
from torch.nn import functional as F

from distill.modeling.binary import BinaryConv2d, BinaryRPNHead
from distill.utils.checkpoint import SafeCheckpointer

REAL = {"MODEL__BINARY__WEIGHTS": False, "MODEL__BINARY__ACTIVATIONS": False}


def test_the_head_has_one_1_bit_convolution_before_real_predictions(cfg: CfgNode) -> None:
    shapes = [ShapeSpec(channels=8, stride=stride) for stride in (4, 8, 16)]
    head = build_rpn_head(cfg, shapes)
    assert isinstance(head, BinaryRPNHead) and isinstance(head, StandardRPNHead)
    assert [n for n, m in head.named_modules() if isinstance(m, BinaryConv2d)] == ["conv.conv"]
    x = torch.randn(2, 8, 5, 7)
    hidden = F.prelu(head.conv.conv(x), head.conv.prelu.weight)
    (logits,), (deltas,) = head([x])
    torch.testing.assert_close(logits, head.objectness_logits(hidden))
    torch.testing.assert_close(deltas, head.anchor_deltas(hidden))
    assert (logits.shape, deltas.shape) == ((2, 3, 5, 7), (2, 12, 5, 7))


def test_several_convolutions_and_learned_scales(cfg: CfgNode) -> None:
    cfg = changed(cfg, MODEL__RPN__CONV_DIMS=[6, -1], MODEL__BINARY__QUANTIZER="learned")
    head = build_rpn_head(cfg, [ShapeSpec(channels=8, stride=4)] * 3)
    convs = [m for m in head.modules() if isinstance(m, BinaryConv2d)]
    assert [(m.in_channels, m.out_channels) for m in convs] == [(8, 6), (6, 6)]
    for conv in convs:
        # Detectron2 initializes the weights; the scales follow.
        assert conv.weight.std() < 0.02
        torch.testing.assert_close(conv.scale.detach(), conv.weight.abs().mean((1, 2, 3)).detach())


@pytest.mark.parametrize("quantizer", ["mean", "learned"])
def test_a_1_bit_detector_trains_and_detects(cfg: CfgNode, quantizer: str) -> None:
    model = build(changed(cfg, MODEL__BINARY__QUANTIZER=quantizer)).train()
    for inputs in (batch(), empty_batch()):
        losses = step(model, inputs)
        assert all(loss.isfinite() for loss in losses.values())
        model.zero_grad()
        sum(losses.values()).backward()
        assert without_gradient(model) == []
    outputs = model.eval()(batch())
    assert all(output["instances"].pred_boxes.tensor.isfinite().all() for output in outputs)


def test_images_of_other_sizes_are_padded_as_for_detectron2(cfg: CfgNode) -> None:
    model = build(cfg).eval()
    images = [{"image": torch.zeros(3, 37, 51, dtype=torch.uint8)}, batch()[0]]
    assert [tuple(o["instances"].image_size) for o in model(images)] == [(37, 51), (64, 64)]


@pytest.mark.parametrize(("before", "now"), [(REAL, {}), ({}, REAL)])
def test_a_checkpoint_of_the_other_precision_loads_with_one_warning(
    cfg: CfgNode,
    before: dict[str, bool],
    now: dict[str, bool],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained = build(changed(cfg, **before), seed=1)
    SafeCheckpointer(trained, str(tmp_path)).save("model")
    model = build(changed(cfg, **now, MODEL__BINARY__QUANTIZER="learned"), seed=2)
    with caplog.at_level(logging.WARNING):
        checkpointer = SafeCheckpointer(model)
        checkpointer.load(str(tmp_path / "model.pth"))
    # Runs in this process may have set other loggers to tell more than warnings.
    warnings = [x.name for x in caplog.records if x.levelno >= logging.WARNING]
    assert warnings == ["distill.modeling.binary.layers"]
    assert "its accuracy holds only after further training" in caplog.text
    incompatible = checkpointer.incompatible
    assert incompatible.missing_keys == incompatible.unexpected_keys == []
    for name, p in trained.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], p)
    # It trains on.
    sum(step(model.train(), batch()).values()).backward()
    assert without_gradient(model) == []

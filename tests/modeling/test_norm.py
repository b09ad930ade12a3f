"""Normalization by name, and the one whose statistics alone are frozen."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

from distill.modeling.norm import FrozenStatsBatchNorm2d, build_norm


def trained() -> FrozenStatsBatchNorm2d:
    """A layer with statistics and an affine map of its own."""
    norm = FrozenStatsBatchNorm2d(3)
    norm.running_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0]))
    norm.weight.data.copy_(torch.tensor([2.0, 1.0, -1.0]))
    norm.bias.data.copy_(torch.tensor([0.0, 3.0, 1.0]))
    return norm


@pytest.mark.parametrize("training", [True, False])
def test_statistics_never_move_and_the_affine_map_is_trained(training: bool) -> None:
    model = nn.Sequential(trained()).train(training)
    norm = model[0]
    before = {name: value.clone() for name, value in norm.named_buffers()}
    x = (3 + 2 * torch.randn(4, 3, 5, 5)).requires_grad_()
    output = model(x)
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers())
    normalized = (x - norm.running_mean[:, None, None]) / (
        norm.running_var[:, None, None] + 1e-5
    ).sqrt()
    expected = normalized * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    torch.testing.assert_close(norm.bias.grad, 2 * expected.sum((0, 2, 3)))
    torch.testing.assert_close(norm.weight.grad, (2 * expected * normalized).sum((0, 2, 3)))
    assert x.grad.isfinite().all()


def test_checkpoints_are_interchangeable_with_live_batch_norm() -> None:
    live = nn.BatchNorm2d(3)
    live(torch.randn(4, 3, 5, 5))
    norm = FrozenStatsBatchNorm2d(3)
    norm.load_state_dict(live.state_dict())
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(norm(x), live.eval()(x))
    live.load_state_dict(norm.state_dict())


def test_detectron2_can_freeze_it_wholly() -> None:
    norm = trained()
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(norm)
    x = torch.randn(2, 3, 4, 4)
    assert type(frozen) is FrozenBatchNorm2d
    torch.testing.assert_close(frozen(x), norm(x))


def test_precise_bn_leaves_it_alone() -> None:
    model = nn.Sequential(trained(), nn.BatchNorm2d(3)).train()
    assert get_bn_modules(model) == [model[1]]


def test_it_runs_under_autocast_and_on_one_cell() -> None:
    norm = trained().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = norm(torch.ones(1, 3, 1, 1, dtype=torch.bfloat16))
    # One cell has no variance of its own, which live batch normalization refuses.
    torch.testing.assert_close(
        output.flatten().float(), torch.tensor([0.0, 9.0, 0.5]), rtol=1e-2, atol=1e-2
    )


def test_norms_are_built_by_name() -> None:
    types = {"BN": nn.BatchNorm2d, "FrozenBN": FrozenBatchNorm2d, "GN": nn.GroupNorm}
    types["FrozenStatsBN"] = FrozenStatsBatchNorm2d
    for name, kind in types.items():
        assert type(build_norm(name, 32)) is kind
    assert build_norm("", 32) is None
    live = build_norm("BN", 3).train()
    live(torch.randn(4, 3, 5, 5))
    assert live.running_mean.abs().sum() > 0


def test_an_unknown_norm_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="'FrozenStats' .MODEL.BINARY.NORM.* use BN, Frozen"):
        build_norm("FrozenStats", 3)

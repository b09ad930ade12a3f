"""Binarization: values by hand, and the gradients that the papers define."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.modeling.binary import BinaryConv2d, PReLU, binarize_activation, binarize_weight
from distill.modeling.binary.functional import mean_scale, prelu


def gradient(output: Tensor, of: Tensor, upstream: Tensor | None = None) -> Tensor:
    return torch.autograd.grad(
        output, of, torch.ones_like(output) if upstream is None else upstream
    )[0]


def test_the_sign_of_activations_is_plus_one_at_either_zero() -> None:
    x = torch.tensor([-3.0, -1e-30, -0.0, 0.0, 1e-30, 3.0])
    expected = [-1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
    assert binarize_activation(x).tolist() == expected
    assert binarize_activation(x.clone().requires_grad_()).tolist() == expected
    assert x[0] == -3.0  # the input stays


def test_the_gradient_of_activations_is_the_polynomial() -> None:
    x = torch.tensor([-1.5, -1.0, -0.75, -0.25, 0.0, 0.25, 0.75, 1.0, 1.5], requires_grad=True)
    expected = [0.0, 0.0, 0.5, 1.5, 2.0, 1.5, 0.5, 0.0, 0.0]
    assert gradient(binarize_activation(x), x).tolist() == expected
    upstream = torch.arange(9.0) - 4
    got = gradient(binarize_activation(x), x, upstream)
    assert torch.equal(got, upstream * torch.tensor(expected))


def test_padding_adds_a_ring_of_plus_one_without_gradient() -> None:
    x = torch.tensor([[[[-0.5, 0.5]]]], requires_grad=True)
    padded = binarize_activation(x, (1, 2))
    expected = torch.ones(1, 1, 3, 6)
    expected[0, 0, 1, 2] = -1
    assert torch.equal(padded, expected)
    assert torch.equal(binarize_activation(x.detach(), (1, 2)), expected)
    upstream = torch.arange(18.0).reshape(1, 1, 3, 6)
    assert gradient(padded, x, upstream).tolist() == [[[[8.0, 9.0]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_types_stay(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 4, 4, dtype=dtype, requires_grad=True)
    assert binarize_activation(x).dtype == binarize_weight(x).dtype == dtype
    assert gradient(binarize_activation(x, (1, 1)), x).dtype == dtype


def test_weights_take_two_values_of_the_mean_magnitude_per_channel() -> None:
    weight = torch.tensor([[0.5, -1.5, 0.0, -0.0], [-0.25, 0.25, 0.75, 0.75]])
    assert mean_scale(weight).tolist() == [0.5, 0.5]
    assert binarize_weight(weight).tolist() == [[0.5, -0.5, 0.5, 0.5], [-0.5, 0.5, 0.5, 0.5]]
    assert binarize_weight(2 * weight)[1].tolist() == [-1.0, 1.0, 1.0, 1.0]
    assert binarize_weight(torch.zeros(1, 2, 3, 3)).abs().sum() == 0


def test_with_the_mean_the_gradient_passes_unscaled_up_to_magnitude_one() -> None:
    weight = torch.tensor([[-1.25, -1.0, -0.5, 0.0, 1.0, 1.25]], requires_grad=True)
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    got = gradient(binarize_weight(weight), weight, upstream)
    assert got.tolist() == [[0.0, 2.0, 3.0, 4.0, 5.0, 0.0]]


def test_a_learned_scale_counts_by_its_magnitude() -> None:
    weight = torch.tensor([[0.5, -1.5], [0.0, -3.0]])
    scale = torch.tensor([-2.0, 0.25])
    assert binarize_weight(weight, scale).tolist() == [[2.0, -2.0], [0.25, -0.25]]


def test_with_a_learned_scale_the_gradient_reaches_weights_times_the_scale() -> None:
    weight = torch.tensor([[0.5, -1.5], [0.0, -0.5]], requires_grad=True)
    scale = torch.tensor([-2.0, 0.25])
    upstream = torch.tensor([[1.0, 1.0], [3.0, 5.0]])
    got = gradient(binarize_weight(weight, scale), weight, upstream)
    assert got.tolist() == [[2.0, 0.0], [0.75, 1.25]]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_gradient_of_a_learned_scale_agrees_with_finite_differences(sign: float) -> None:
    # The authors' release has the wrong sign where the scale is negative.
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    scale = (sign * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)).requires_grad_()
    target = torch.randn_like(weight)

    def loss(scale: Tensor) -> Tensor:
        return (binarize_weight(weight, scale) - target).square().sum()

    assert torch.autograd.gradcheck(loss, (scale,))
    by_hand = sign * (2 * (binarize_weight(weight, scale) - target) * weight.sign()).sum((1, 2, 3))
    assert torch.allclose(gradient(loss(scale), scale), by_hand)


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.25, 1.0, 3.0])
def test_prelu_equals_pytorchs_in_value_and_gradients(slope: float) -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    x[0, 0, 0] = 0.0
    x.requires_grad_()
    slopes = torch.tensor([slope, 0.25, -slope], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(x)
    own, reference = prelu(x, slopes), F.prelu(x, slopes)
    assert torch.equal(own, reference)
    for mine, theirs in zip(
        torch.autograd.grad(own, (x, slopes), upstream),
        torch.autograd.grad(reference, (x, slopes), upstream),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_without_gradients_the_values_are_the_same_and_can_be_traced() -> None:
    layer = nn.Sequential(BinaryConv2d(2, 3, 3, padding=1, quantizer="learned"), PReLU(3))
    x = torch.randn(1, 2, 5, 5)
    with torch.no_grad():
        traced, without = torch.jit.trace(layer, x), layer(x)
    assert torch.equal(without, layer(x.requires_grad_()))
    assert "PythonOp" not in str(traced.inlined_graph)
    y = torch.randn(1, 2, 6, 7)
    torch.testing.assert_close(traced(y), layer(y))

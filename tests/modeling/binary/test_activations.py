"""ReActNet's shifted sign and PReLU, by hand."""

from __future__ import annotations

import torch

from distill.modeling.binary import LearnableBias, RPReLU, binarize_activation


def test_the_shifted_sign_moves_its_threshold_per_channel() -> None:
    layer = LearnableBias(2)
    x = torch.tensor([-0.5, 0.5]).reshape(1, 2, 1, 1)
    assert binarize_activation(layer(x)).flatten().tolist() == [-1.0, 1.0]
    layer.bias.data.copy_(torch.tensor([0.75, -0.75]))
    output = binarize_activation(layer(x))
    assert output.flatten().tolist() == [1.0, -1.0]
    output.sum().backward()
    assert layer.bias.grad.tolist() == [1.5, 1.5]


def test_the_shifted_prelu_is_by_hand() -> None:
    layer = RPReLU(2)
    x = torch.tensor([-2.0, 2.0]).reshape(1, 2, 1, 1)
    assert layer(x).flatten().tolist() == [-0.5, 2.0]
    layer.shift.bias.data.copy_(torch.tensor([1.0, -3.0]))
    layer.offset.bias.data.copy_(torch.tensor([10.0, 20.0]))
    assert layer(x).flatten().tolist() == [9.75, 19.75]

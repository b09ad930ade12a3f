from __future__ import annotations

import pytest
import torch

from distill.deploy.packing import pack_signs, packed_shape, unpack_signs


def test_weight_i_is_bit_i_of_its_channels_row_and_zero_is_positive():
    weight = torch.full((2, 1, 3, 3), -0.5)
    weight[0].view(-1)[[0, 3, 8]] = torch.tensor([2.0, 0.0, 1e-9])
    weight[1].view(-1)[7] = 1.0
    packed = pack_signs(weight)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == [[1 + 8, 1], [128, 0]]


def test_unpacking_gives_exactly_alpha_and_minus_alpha():
    packed = torch.tensor([[0b101], [0b010]], dtype=torch.uint8)
    alpha = torch.tensor([0.1, 3.0])
    weight = unpack_signs(packed, alpha, (2, 3, 1, 1))
    a = alpha[0].item()
    assert weight.flatten(1).tolist() == [[a, -a, a], [-3.0, 3.0, -3.0]]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 8, 1, 1), (2, 5, 3, 3), (4, 2, 1, 7)])
def test_signs_come_back(shape):
    weight = torch.randn(shape)
    packed = pack_signs(weight)
    assert packed.shape == packed_shape(shape)
    assert torch.equal(unpack_signs(packed, torch.ones(shape[0]), shape), weight.sign())


def test_a_weight_that_is_no_contiguous_memory_is_packed_in_the_same_order():
    weight = torch.randn(4, 5, 3, 3)
    channels_last = weight.to(memory_format=torch.channels_last)
    assert torch.equal(pack_signs(channels_last), pack_signs(weight))

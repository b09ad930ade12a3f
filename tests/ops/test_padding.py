"""Rows of several images in one table."""

from __future__ import annotations

import pytest
import torch

from distill.ops.padding import pad_rows


def test_images_are_padded_to_the_fullest_one() -> None:
    padded, valid = pad_rows([torch.ones(1, 4), 2 * torch.ones(2, 4), torch.zeros(0, 4)])
    assert padded[..., 0].tolist() == [[1, 0], [2, 2], [0, 0]]
    assert valid.tolist() == [[True, False], [True, True], [False, False]]


@pytest.mark.parametrize("shape", [(), (4,)])
def test_a_batch_without_rows_keeps_the_extra_one(shape: tuple[int, ...]) -> None:
    padded, valid = pad_rows([torch.zeros(0, *shape)] * 2, extra=1)
    assert padded.shape == (2, 1, *shape) and not valid.any() and not padded.any()


def test_the_type_of_the_rows_is_kept() -> None:
    assert pad_rows([torch.tensor([3, 4])])[0].dtype == torch.int64

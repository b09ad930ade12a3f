"""Crops of two detectors in turns are those of all proposals at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.methods.ida_det.discrepancy import (
    padded_discrepancy,
    relative_distance,
    softmax_distance,
)
from distill.ops import roi_lookup
from distill.ops.roi_lookup import pool_boxes, pool_pairs

STRIDES = (4, 8)


def maps_of() -> list[Tensor]:
    return [torch.randn(2, 5, 96 // s, 224 // s) for s in STRIDES]


@pytest.mark.parametrize("by_level", [False, True])
@pytest.mark.parametrize("together", [1, 3, 100])
def test_proposals_in_turns_give_what_all_at_once_give(
    by_level: bool, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roi_lookup, "_CACHED_ELEMENTS", together * 2 * 9 * 5)
    corners = torch.rand(2, 7, 2, 2) * torch.tensor([224.0, 96.0])
    boxes = torch.cat([corners.amin(2), corners.amax(2)], dim=-1)
    level = torch.arange(14).view(2, 7) % 2 if by_level else None
    sides = maps_of(), maps_of()
    whole = [list(pool_boxes(maps, STRIDES, boxes, level, 3)) for maps in sides]
    for crops, student, teacher in zip(
        pool_pairs(*sides, STRIDES, boxes, level, 3), *whole, strict=True
    ):
        parts = list(crops)
        assert len(parts) == -(-7 // together)
        torch.testing.assert_close(torch.cat([x for x, _ in parts], 1), student)
        torch.testing.assert_close(torch.cat([x for _, x in parts], 1), teacher)
        measured = zip(*(softmax_distance(*pair) for pair in parts), strict=True)
        found = relative_distance(*(torch.cat(x, 1) for x in measured))
        torch.testing.assert_close(found, padded_discrepancy(student, teacher))

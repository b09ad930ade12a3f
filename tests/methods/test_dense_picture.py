"""The picture of the dense methods: its heat lies at the anchors where the detectors disagree."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny, tiny_dense
from torch import Tensor

from distill.methods import dense_picture


@pytest.mark.parametrize(
    ("offset", "rows", "columns"),
    # Cell (2, 3) of stride 8: the center of its anchors is in its middle, or in its corner.
    [(0.5, (16, 24), (24, 32)), (0.0, (12, 20), (20, 28))],
)
def test_a_cell_is_hot_around_the_center_of_its_anchors(
    offset: float, rows: tuple, columns: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"MODEL__ANCHOR_GENERATOR__OFFSET": offset}
    student, teacher = tiny_dense.signals(
        tiny_dense.one_anchor(**changes), tiny_dense.one_anchor(1, **changes), tiny.batch()
    )
    student.head_outputs = [[torch.zeros_like(x) for x in y] for y in student.head_outputs]
    outputs = [[torch.zeros_like(x) for x in y] for y in teacher.head_outputs]
    outputs[0][1][0, 2, 2, 3] = 20.0
    teacher.head_outputs = outputs
    student.anchor_labels.fill_(tiny.NUM_CLASSES)
    heats: list[Tensor] = []
    monkeypatch.setattr(
        dense_picture, "draw_heat", lambda example, heat, *found: heats.append(heat)
    )
    dense_picture.draw_dense_discrepancy(student, teacher)
    expected = torch.zeros(64, 64)
    expected[slice(*rows), slice(*columns)] = 0.5
    torch.testing.assert_close(heats[0], expected)

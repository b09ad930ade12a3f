from __future__ import annotations

import pytest
import torch

from distill.modeling.atss import centerness_target


def test_centerness_is_the_geometric_mean_of_both_ratios() -> None:
    box = torch.tensor([0.0, 0, 10, 20])
    points = torch.tensor([[5.0, 10], [2, 10], [2, 4], [10, 10]])
    # 1, then sqrt(2/8), sqrt(2/8 * 4/16), and on a side.
    assert centerness_target(points, box).tolist() == pytest.approx([1, 0.5, 0.25, 0])

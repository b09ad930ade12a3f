"""What lies in a region."""

from __future__ import annotations

import torch

from distill.modeling.ignored_regions import centers_inside


def test_a_box_lies_in_a_region_if_its_center_does() -> None:
    regions = torch.tensor([[10.0, 10, 20, 30], [0, 0, 0, 0], [40, 40, 50, 40]])
    boxes = torch.tensor(
        [
            [5.0, 15, 16, 25],
            [5, 15, 14, 25],
            [0, 0, 30, 40],
            [15, 15, 25, 25],
            [-5, -5, 5, 5],
            [40, 35, 50, 45],
        ]
    )
    inside = [True, False, True, False, False, False]
    assert centers_inside(boxes, regions).tolist() == inside
    assert centers_inside(boxes, regions[:0]).tolist() == [False] * 6

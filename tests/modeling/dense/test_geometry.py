from __future__ import annotations

import torch

from distill.modeling.dense import box_centers, side_distances


def test_a_center_lies_half_way_between_the_corners() -> None:
    boxes = torch.tensor([[[2.0, 4, 8, 6], [-4, -4, 0, 1]]])
    assert box_centers(boxes).tolist() == [[[5, 5], [-2, -1.5]]]


def test_distances_are_to_the_left_top_right_and_bottom_side() -> None:
    points, boxes = torch.tensor([[5.0, 6.0], [0.0, 9.0]]), torch.tensor([2.0, 4, 9, 8])
    assert side_distances(points, boxes).tolist() == [[3, 2, 4, 2], [-2, 5, 9, -1]]

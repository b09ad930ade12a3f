"""Overlap of boxes pair by pair, and where points lie in them."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torchvision.ops import distance_box_iou_loss, generalized_box_iou_loss

from distill.ops.boxes import aligned_overlap, box_centers, side_distances

KINDS = ("iou", "giou", "diou")


def random_boxes(*shape: int) -> torch.Tensor:
    corner, size = 30 * torch.rand(2, *shape, 2)
    return torch.cat([corner, corner + size + 1], -1)


def test_the_values_by_hand() -> None:
    # Intersection 2 x 2, union 16 + 8 - 4, smallest box around both 6 x 4; centers 2.5 x 1 apart.
    box, other = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 2, 6, 4]])
    iou = 4 / 20
    assert aligned_overlap(box, other, "iou").item() == pytest.approx(iou)
    assert aligned_overlap(box, other).item() == pytest.approx(iou - 4 / 24)
    assert aligned_overlap(box, other, "diou").item() == pytest.approx(iou - (2**2 + 1) / 52)


def test_disjoint_boxes_by_hand() -> None:
    box, other = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[3.0, 0, 4, 1]])
    assert aligned_overlap(box, other, "iou") == 0
    assert aligned_overlap(box, other, "giou").item() == pytest.approx(-0.5)
    assert aligned_overlap(box, other, "diou").item() == pytest.approx(-9 / 17)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_boxes_overlap_by_exactly_1_whatever_their_shape(kind: str) -> None:
    boxes = random_boxes(2, 3, 5)
    overlap = aligned_overlap(boxes, boxes.clone(), kind)
    assert torch.equal(overlap, torch.ones(2, 3, 5))


def test_it_is_what_torchvision_computes() -> None:
    boxes, others = random_boxes(2, 50)
    torch.testing.assert_close(
        1 - aligned_overlap(boxes, others, "giou"), generalized_box_iou_loss(boxes, others)
    )
    torch.testing.assert_close(
        1 - aligned_overlap(boxes, others, "diou"), distance_box_iou_loss(boxes, others)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_finite_differences(kind: str) -> None:
    boxes, others = random_boxes(2, 4).double()
    boxes.requires_grad_()
    assert gradcheck(lambda x: aligned_overlap(x, others, kind), (boxes,))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_and_swapped_ones_are_finite(kind: str) -> None:
    degenerate = torch.tensor(
        [[5.0, 5, 5, 5], [5, 0, 5, 10], [8, 8, 2, 3], [8, 0, 2, 9], [900, 900, 900, 900]]
    )
    for others in (degenerate, torch.tensor([[0.0, 0, 9, 9]]).expand(5, 4), degenerate.flip(0)):
        boxes = degenerate.clone().requires_grad_()
        overlap = aligned_overlap(boxes, others, kind)
        (gradient,) = torch.autograd.grad(overlap.sum(), boxes)
        assert overlap.isfinite().all() and overlap.abs().max() <= 1
        # A denominator of some epsilon would give millions.
        assert gradient.abs().max() < 20


def test_half_precision_boxes_are_compared_in_float32() -> None:
    boxes, others = random_boxes(2, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        overlap = aligned_overlap(boxes, others)
    assert overlap.dtype == torch.float32
    assert torch.equal(overlap, aligned_overlap(boxes.float(), others.float()))


def test_double_precision_boxes_are_compared_in_it() -> None:
    boxes, others = random_boxes(2, 6).double()
    overlap = aligned_overlap(boxes, others, "iou")
    assert overlap.dtype == torch.float64
    assert torch.allclose(overlap.float(), aligned_overlap(boxes.float(), others.float(), "iou"))


def test_without_boxes_there_is_no_overlap() -> None:
    assert aligned_overlap(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_a_nan_is_not_hidden() -> None:
    box = torch.tensor([[0.0, 0, float("nan"), 4]])
    assert aligned_overlap(box, torch.tensor([[0.0, 0, 4, 4]])).isnan().all()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match='kind is "ciou"; it must be "iou", "giou" or "diou"'):
        aligned_overlap(torch.zeros(1, 4), torch.zeros(1, 4), "ciou")


def test_a_center_lies_half_way_between_the_corners() -> None:
    boxes = torch.tensor([[[2.0, 4, 8, 6], [-4, -4, 0, 1]]])
    assert box_centers(boxes).tolist() == [[[5, 5], [-2, -1.5]]]


def test_distances_are_to_the_left_top_right_and_bottom_side() -> None:
    points, boxes = torch.tensor([[5.0, 6.0], [0.0, 9.0]]), torch.tensor([2.0, 4, 9, 8])
    assert side_distances(points, boxes).tolist() == [[3, 2, 4, 2], [-2, 5, 9, -1]]

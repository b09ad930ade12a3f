"""Masks of maps: boxes, not bands; the cells whose anchors fit, by hand."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from distill.ops import box_masks
from distill.ops.box_masks import anchor_overlap_masks, box_union_mask


def mask_of(*boxes: tuple[float, ...], size: tuple[int, int] = (4, 9), stride: int = 8) -> Tensor:
    """The mask of one image's boxes."""
    table = torch.tensor(boxes).view(1, -1, 4).float()
    found = box_union_mask(table, torch.ones(table.shape[:2], dtype=torch.bool), size, stride)
    assert found.shape == (1, 1, *size) and found.dtype == torch.float32
    return found[0, 0]


def cells(size: tuple[int, int], *areas: tuple[slice, slice]) -> Tensor:
    expected = torch.zeros(size)
    for area in areas:
        expected[area] = 1
    return expected


def test_a_small_box_on_a_wide_map_lights_up_its_own_rectangle_only() -> None:
    # The authors' release lights up the rows from one side of the map to the other.
    found = mask_of((16.0, 8, 40, 24))
    assert torch.equal(found, cells((4, 9), (slice(1, 3), slice(2, 5))))


def test_rows_are_of_y_and_columns_of_x() -> None:
    found = mask_of((0.0, 0, 8, 32))
    assert torch.equal(found, cells((4, 9), (slice(0, 4), slice(0, 1))))


def test_cells_count_whose_centers_are_inside() -> None:
    # Centers at 4, 12, 20, ...
    assert torch.equal(mask_of((4.0, 3.9, 12.1, 19.9)), cells((4, 9), (slice(0, 2), slice(0, 2))))
    assert torch.equal(mask_of((4.1, 4.1, 19.9, 20.1)), cells((4, 9), (slice(1, 3), slice(1, 2))))


def test_boxes_are_united_not_added() -> None:
    found = mask_of((0.0, 0, 16, 16), (8.0, 8, 24, 24), (8.0, 8, 24, 24))
    expected = cells((4, 9), (slice(0, 2), slice(0, 2)), (slice(1, 3), slice(1, 3)))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ((17.0, 9.0, 18.0, 10.0), (1, 2)),  # between centers
        ((19.0, 11.0, 19.0, 11.0), (1, 2)),  # no area
        ((13.0, 0.0, 14.0, 32.0), (2, 1)),  # meets centers along one axis only
        ((100.0, 9.0, 140.0, 10.0), (1, 8)),  # right of the map
        ((-40.0, -40.0, -20.0, -20.0), (0, 0)),  # left of and above it
    ],
)
def test_a_box_without_a_cell_center_gets_exactly_one_cell(
    box: tuple[float, ...], cell: tuple[int, int]
) -> None:
    expected = torch.zeros(4, 9)
    expected[cell] = 1
    assert torch.equal(mask_of(box), expected)


def test_boxes_that_are_not_valid_or_no_numbers_leave_no_trace() -> None:
    nan = float("nan")
    boxes = torch.tensor(
        [
            [[0.0, 0, 8, 8], [16, 16, 32, 32], [0, 0, 0, 0]],
            [[nan, nan, nan, nan], [8, 0, 16, 8], [0, 0, 72, 32]],
        ]
    )
    valid = torch.tensor([[True, False, False], [True, True, False]])
    found = box_union_mask(boxes, valid, (4, 9), 8)
    assert torch.equal(found[0, 0], cells((4, 9), (slice(0, 1), slice(0, 1))))
    assert torch.equal(found[1, 0], cells((4, 9), (slice(0, 1), slice(1, 2))))
    assert not box_union_mask(boxes, torch.zeros_like(valid), (4, 9), 8).any()


def test_without_boxes_the_mask_is_empty() -> None:
    empty = torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool)
    assert torch.equal(box_union_mask(*empty, (3, 5), 8), torch.zeros(2, 1, 3, 5))


def test_many_boxes_are_the_union_of_one_at_a_time() -> None:
    corner = torch.rand(300, 2) * 60
    boxes = torch.cat([corner, corner + torch.rand(300, 2) * 12], dim=1)
    found = mask_of(*boxes.tolist(), size=(8, 10))
    expected = torch.stack([mask_of(tuple(x), size=(8, 10)) for x in boxes.tolist()]).amax(0)
    assert 0 < expected.mean() < 1 and torch.equal(found, expected)


# ------------------------------------------------------------- anchors


def grid(size: tuple[int, int], stride: int, *shapes: tuple[float, float]) -> Tensor:
    """(H W A, 4) anchors of the given widths and heights at the cells' centers."""
    y, x = torch.meshgrid(*(torch.arange(n) * stride + stride / 2 for n in size), indexing="ij")
    centers = torch.stack([x, y], dim=-1).view(-1, 1, 2)
    half = torch.tensor(shapes) / 2
    return torch.cat([centers - half, centers + half], dim=-1).view(-1, 4)


def test_cells_count_whose_anchor_is_half_as_good_as_the_best() -> None:
    # One anchor of 10 x 10 in each of 2 x 4 cells of 10 pixels, and a box that covers cell (0, 1)
    # and the left 6 pixels of cell (0, 2): IoU 100 / 160 there and 60 / 200 in (0, 2).
    anchors = grid((2, 4), 10, (10.0, 10.0))
    boxes = torch.tensor([[[10.0, 0, 26, 10]]])
    valid = torch.ones(1, 1, dtype=torch.bool)

    def lit(ratio: float) -> list[list[int]]:
        (mask,) = anchor_overlap_masks([anchors], [(2, 4)], boxes, valid, ratio)
        assert mask.shape == (1, 1, 2, 4)
        return mask[0, 0].nonzero().tolist()

    assert lit(0.5) == [[0, 1]]
    # 0.3 / 0.625 is 0.48.
    assert lit(0.47) == [[0, 1], [0, 2]]
    assert lit(0.49) == [[0, 1]]


def test_any_anchor_of_a_cell_will_do() -> None:
    # The tall box is met by the second, tall anchor of its cell.
    anchors = grid((2, 3), 10, (18.0, 6.0), (6.0, 18.0))
    boxes = torch.tensor([[[12.0, -4, 18, 14]]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    (mask,) = anchor_overlap_masks([anchors], [(2, 3)], boxes, valid, 0.9)
    assert mask[0, 0].tolist() == [[0, 1, 0], [0, 0, 0]]


def test_the_best_anchor_is_sought_over_all_levels() -> None:
    # A box like the anchors of the coarse level: on the fine one no anchor is half as good.
    levels = [grid((4, 4), 10, (10.0, 10.0)), grid((2, 2), 20, (20.0, 20.0))]
    boxes = torch.tensor([[[0.0, 0, 20, 20]]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    fine, coarse = anchor_overlap_masks(levels, [(4, 4), (2, 2)], boxes, valid)
    assert not fine.any()
    assert coarse[0, 0].tolist() == [[1, 0], [0, 0]]
    (alone,) = anchor_overlap_masks(levels[:1], [(4, 4)], boxes, valid)
    assert alone[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def random_objects(count: int) -> tuple[Tensor, Tensor]:
    corner = torch.rand(2, count, 2) * 50
    boxes = torch.cat([corner, corner + 4 + torch.rand(2, count, 2) * 30], dim=-1)
    return boxes, torch.rand(2, count) < 0.7


def test_masks_are_those_of_detectron2s_overlaps_one_box_at_a_time() -> None:
    levels, sizes = [grid((6, 9), 8, (12.0, 8.0), (8.0, 16.0)), grid((3, 5), 16, (30.0, 30.0))], []
    sizes = [(6, 9), (3, 5)]
    boxes, valid = random_objects(9)
    found = anchor_overlap_masks(levels, sizes, boxes, valid)
    for image in range(2):
        expected = [torch.zeros(size) for size in sizes]
        for box in boxes[image][valid[image]]:
            overlaps = [pairwise_iou(Boxes(box[None]), Boxes(x))[0] for x in levels]
            least = 0.5 * max(x.max() for x in overlaps)
            for mask, overlap in zip(expected, overlaps, strict=True):
                mask[(overlap > least).view(*mask.shape, -1).any(-1)] = 1
        assert expected[0].any()
        for mask, reference in zip(found, expected, strict=True):
            assert torch.equal(mask[image, 0], reference)


def test_objects_in_turns_give_the_masks_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    levels, sizes = [grid((6, 9), 8, (12.0, 8.0)), grid((3, 5), 16, (30.0, 30.0))], [(6, 9), (3, 5)]
    boxes, valid = random_objects(50)
    at_once = anchor_overlap_masks(levels, sizes, boxes, valid)
    for limit in (1, 7 * 2 * 54):
        monkeypatch.setattr(box_masks, "_MAX_ELEMENTS", limit)
        for mask, expected in zip(
            anchor_overlap_masks(levels, sizes, boxes, valid), at_once, strict=True
        ):
            assert torch.equal(mask, expected)


def test_objects_that_no_anchor_meets_or_without_area_light_up_nothing() -> None:
    anchors = [grid((2, 2), 10, (10.0, 10.0))]
    boxes = torch.tensor([[[500.0, 500, 600, 600], [5, 5, 5, 5]]])
    (mask,) = anchor_overlap_masks(anchors, [(2, 2)], boxes, torch.ones(1, 2, dtype=torch.bool))
    assert not mask.any()
    (mask,) = anchor_overlap_masks(
        anchors, [(2, 2)], torch.zeros(3, 0, 4), torch.zeros(3, 0, dtype=torch.bool)
    )
    assert torch.equal(mask, torch.zeros(3, 1, 2, 2))


def test_padded_objects_light_up_nothing() -> None:
    anchors = [grid((2, 2), 10, (10.0, 10.0))]
    boxes = torch.tensor([[[0.0, 0, 10, 10], [10, 10, 20, 20]]])
    (mask,) = anchor_overlap_masks(anchors, [(2, 2)], boxes, torch.tensor([[False, True]]))
    assert mask[0, 0].tolist() == [[0, 0], [0, 1]]


def test_an_overlap_of_just_the_share_does_not_count() -> None:
    # The box is an anchor of the first level, and half of the only one of the second.
    levels = [grid((1, 2), 10, (10.0, 10.0)), torch.tensor([[0.0, 0, 20, 10]])]
    boxes, valid = torch.tensor([[[0.0, 0, 10, 10]]]), torch.ones(1, 1, dtype=torch.bool)
    _, coarse = anchor_overlap_masks(levels, [(1, 2), (1, 1)], boxes, valid, 0.5)
    assert not coarse.any()
    _, coarse = anchor_overlap_masks(levels, [(1, 2), (1, 1)], boxes, valid, 0.499)
    assert coarse.all()

"""The Gaussian masks: values by hand, small and odd boxes, many boxes."""

from __future__ import annotations

import math

import pytest
import torch

from distill.losses import gaussian, gaussian_box_mask, gaussian_box_masks


def boxes_at_random(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 80
    return torch.cat([corner, corner + torch.rand(count, 2) * 40], 1)


def test_the_value_is_1_at_the_center_and_falls_as_the_formula_says() -> None:
    # Cell centers at 0.5, 1.5, 2.5; the box is centered on the middle one with sigma 1 cell, so
    # that edge midpoints and corners are cell centers too.
    mask = gaussian_box_mask(torch.tensor([[0.5, 0.5, 2.5, 2.5]]), (4, 4), 1)
    edge, corner = math.exp(-0.5), math.exp(-1)
    torch.testing.assert_close(
        mask,
        torch.tensor(
            [
                [corner, edge, corner, 0],
                [edge, 1, edge, 0],
                [corner, edge, corner, 0],
                [0, 0, 0, 0],
            ]
        ),
    )


def test_width_and_height_have_their_own_sigma() -> None:
    # 4 cells of stride 8 wide and 2 high, centered between cells: offsets 0.5 and 1.5 of sigma 2,
    # and 0.5 of sigma 1.
    mask = gaussian_box_mask(torch.tensor([[16.0, 8.0, 48.0, 24.0]]), (4, 8), 8)
    row = [math.exp(-(d**2) / 8) * math.exp(-(0.5**2) / 2) for d in (1.5, 0.5, 0.5, 1.5)]
    expected = torch.zeros(4, 8)
    expected[1:3, 2:6] = torch.tensor(row)
    torch.testing.assert_close(mask, expected)


def test_nothing_lies_outside_the_box() -> None:
    mask = gaussian_box_mask(torch.tensor([[10.0, 6.0, 30.0, 14.0]]), (20, 40), 1)
    inside = torch.zeros(20, 40, dtype=torch.bool)
    inside[6:14, 10:30] = True
    assert torch.equal(mask > 0, inside)


def test_overlapping_boxes_give_the_larger_value_not_the_sum() -> None:
    boxes = torch.tensor([[0.0, 0.0, 24.0, 24.0], [8.0, 8.0, 32.0, 32.0]])
    together = gaussian_box_mask(boxes, (4, 4), 8)
    alone = [gaussian_box_mask(box[None], (4, 4), 8) for box in boxes]
    assert ((alone[0] > 0) & (alone[1] > 0)).any()
    assert torch.equal(together, torch.maximum(*alone))


def test_the_same_box_twice_changes_nothing() -> None:
    box = torch.tensor([[3.0, 5.0, 29.0, 17.0]])
    assert torch.equal(
        gaussian_box_mask(box.repeat(2, 1), (4, 4), 8), gaussian_box_mask(box, (4, 4), 8)
    )


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ((17.0, 9.0, 18.0, 10.0), (1, 2)),  # between centers
        ((19.0, 11.0, 19.0, 11.0), (1, 2)),  # no area
        ((16.0, 0.0, 17.0, 32.0), (2, 2)),  # meets centers along one axis only
        ((100.0, 9.0, 140.0, 10.0), (1, 3)),  # right of the map
        ((-40.0, -40.0, -20.0, -20.0), (0, 0)),  # left of and above it
        ((20.0, 12.0, 18.0, 10.0), (1, 2)),  # corners exchanged
    ],
)
def test_a_box_without_a_cell_center_gets_exactly_one_cell(
    box: tuple[float, ...], cell: tuple[int, int]
) -> None:
    mask = gaussian_box_mask(torch.tensor([box]), (4, 4), 8)
    expected = torch.zeros(4, 4)
    expected[cell] = 1
    assert torch.equal(mask, expected)


def test_a_box_without_area_on_a_cell_center_gets_that_cell() -> None:
    mask = gaussian_box_mask(torch.tensor([[12.0, 20.0, 12.0, 20.0]]), (4, 4), 8)
    assert mask[2, 1] == 1 and mask.sum() == 1


def test_a_box_that_leaves_the_map_keeps_its_own_center() -> None:
    # Sigma 16 pixels around (0, 0): cells at 4 and 12 pixels.
    mask = gaussian_box_mask(torch.tensor([[-16.0, -16.0, 16.0, 16.0]]), (3, 3), 8)
    a, b = math.exp(-(4**2) / 512), math.exp(-(12**2) / 512)
    expected = torch.tensor([[a * a, a * b, 0], [a * b, b * b, 0], [0, 0, 0]])
    torch.testing.assert_close(mask, expected)


def test_without_boxes_the_mask_is_empty() -> None:
    mask = gaussian_box_mask(torch.zeros(0, 4), (2, 3), 8)
    assert torch.equal(mask, torch.zeros(2, 3))


def test_padding_and_boxes_of_other_levels_leave_no_trace() -> None:
    boxes = torch.stack([boxes_at_random(5), boxes_at_random(5)])
    valid = torch.tensor([[True, False, True, False, False], [False] * 5])
    masks = gaussian_box_masks(boxes, valid, (12, 16), 8)
    assert masks.shape == (2, 1, 12, 16)
    assert torch.equal(masks[0, 0], gaussian_box_mask(boxes[0, [0, 2]], (12, 16), 8))
    assert not masks[1].any()


def test_three_hundred_boxes_in_turns_are_the_boxes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boxes = torch.stack([boxes_at_random(300), boxes_at_random(300)])
    valid = torch.rand(2, 300) < 0.9
    at_once = gaussian_box_masks(boxes, valid, (12, 16), 8)
    monkeypatch.setattr(gaussian, "_MAX_ELEMENTS", 7 * 2 * 12 * 16)
    assert torch.equal(gaussian_box_masks(boxes, valid, (12, 16), 8), at_once)
    one_by_one = torch.stack([gaussian_box_mask(b[None], (12, 16), 8) for b in boxes[0][valid[0]]])
    torch.testing.assert_close(at_once[0, 0], one_by_one.amax(0))
    assert at_once.amin() >= 0 and at_once.amax() <= 1


def test_a_box_with_nan_does_not_spread() -> None:
    boxes = torch.tensor([[8.0, 8.0, 24.0, 24.0], [float("nan")] * 4])
    mask = gaussian_box_mask(boxes, (4, 4), 8)
    assert torch.equal(mask, gaussian_box_mask(boxes[:1], (4, 4), 8))


def test_the_mask_is_float32_also_of_half_precision_boxes_under_autocast() -> None:
    box = torch.tensor([[8.0, 8.0, 24.0, 24.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask = gaussian_box_mask(box.half(), (4, 4), 8)
    assert mask.dtype == torch.float32
    assert torch.equal(mask, gaussian_box_mask(box, (4, 4), 8))

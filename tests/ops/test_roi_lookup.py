"""Crops of boxes from feature maps, against torchvision's ROIAlign."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from distill.ops.roi_lookup import FeatureTable, pool_boxes

STRIDES = (4, 8, 16)
# Height and width in pixels: x and y cannot be exchanged unnoticed.
SIZE = (96, 224)


def maps_of(channels: int = 5, images: int = 3) -> list[Tensor]:
    return [torch.randn(images, channels, SIZE[0] // s, SIZE[1] // s) for s in STRIDES]


def boxes_of(images: int = 3, count: int = 12) -> Tensor:
    """Boxes of all shapes within the image."""
    limits = torch.tensor([SIZE[1], SIZE[0]]).float()
    corners = torch.rand(images, count, 2, 2) * limits
    return torch.cat([corners.amin(2), corners.amax(2)], dim=-1)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of places of up to 56 cells."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def aligned(feature: Tensor, stride: int, boxes: Tensor, resolution: int) -> Tensor:
    """torchvision's crops in this library's layout, (N, P, resolution ** 2, C)."""
    crops = roi_align(feature, list(boxes), resolution, 1 / stride, sampling_ratio=1, aligned=True)
    return crops.flatten(2).transpose(1, 2).view(*boxes.shape[:2], resolution**2, feature.shape[1])


@pytest.mark.parametrize("resolution", [1, 2, 7])
def test_crops_of_every_level_and_image_are_those_of_roi_align(resolution: int) -> None:
    maps, boxes = maps_of(), boxes_of()
    crops = list(pool_boxes(maps, STRIDES, boxes, None, resolution))
    assert len(crops) == len(maps)
    for crop, feature, stride in zip(crops, maps, STRIDES, strict=True):
        assert crop.shape == (3, 12, resolution**2, 5) and crop.dtype == torch.float32
        assert_close(crop, aligned(feature, stride, boxes, resolution))


@pytest.mark.parametrize("resolution", [1, 3])
def test_every_box_is_cropped_from_its_own_level(resolution: int) -> None:
    maps, boxes = maps_of(), boxes_of()
    level = torch.arange(36).view(3, 12) % 3
    (crops,) = pool_boxes(maps, STRIDES, boxes, level, resolution)
    expected = torch.stack(
        [aligned(x, s, boxes, resolution) for x, s in zip(maps, STRIDES, strict=True)]
    )
    chosen = expected.gather(0, level[None, ..., None, None].expand_as(expected[:1]))[0]
    assert_close(crops, chosen)


def test_a_crop_by_hand_tells_rows_from_columns() -> None:
    # A map of 2 x 6 cells of 10 pixels, whose values are 10 * row + column.
    feature = torch.tensor([[[[0.0, 1, 2, 3, 4, 5], [10.0, 11, 12, 13, 14, 15]]]])
    # Bins 10 pixels high and 15 wide, whose centers are at x = 27.5 and 42.5, y = 5 and 15: columns
    # 2.25 and 3.75 of rows 0 and 1, counted from the first cell's center.
    box = torch.tensor([[[20.0, 0.0, 50.0, 20.0]]])
    crop = FeatureTable([feature], [10]).pool(box, 0, 2)
    torch.testing.assert_close(crop.flatten(), torch.tensor([2.25, 3.75, 12.25, 13.75]))


def test_boxes_along_the_border_are_those_of_roi_align() -> None:
    height, width = SIZE
    border = torch.tensor(
        [
            [0, 0, width, height],
            [0, 0, 3, 3],
            [width - 3, height - 3, width, height],
            [0, height - 1, width, height],
            [width - 1, 0, width, height],
            [width, height, width, height],
            [0, 0, 0, 0],
        ]
    ).float()
    boxes = border.expand(3, -1, -1)
    maps = maps_of()
    for crop, feature, stride in zip(
        pool_boxes(maps, STRIDES, boxes, None, 7), maps, STRIDES, strict=True
    ):
        assert_close(crop, aligned(feature, stride, boxes, 7))


def test_gradients_are_those_of_roi_align() -> None:
    maps, boxes = [x.requires_grad_() for x in maps_of()], boxes_of()
    mine = list(pool_boxes(maps, STRIDES, boxes, None, 3))
    other = [aligned(x, s, boxes, 3) for x, s in zip(maps, STRIDES, strict=True)]
    factors = [torch.randn_like(x) for x in mine]
    found, expected = (
        torch.autograd.grad(sum((x * y).sum() for x, y in zip(crops, factors, strict=True)), maps)
        for crops in (mine, other)
    )
    for gradient, reference in zip(found, expected, strict=True):
        assert reference.abs().sum() > 0
        assert_close(gradient, reference)


def test_gradients_through_each_boxs_own_level_reach_that_level_only() -> None:
    maps, boxes = [x.requires_grad_() for x in maps_of()], boxes_of()
    (crops,) = pool_boxes(maps, STRIDES, boxes, torch.ones(3, 12, dtype=torch.long), 3)
    found = torch.autograd.grad(crops.square().sum(), maps)
    (expected,) = torch.autograd.grad(aligned(maps[1], 8, boxes, 3).square().sum(), maps[1])
    assert_close(found[1], expected)
    assert not found[0].any() and not found[2].any()


@pytest.mark.parametrize("by_level", [False, True])
def test_boxes_that_are_no_boxes_take_values_of_their_own_image(by_level: bool) -> None:
    nan, inf = float("nan"), float("inf")
    wild = torch.tensor(
        [
            [nan, nan, nan, nan],
            [nan, 3.0, 8.0, nan],
            [-inf, -inf, inf, inf],
            [inf, inf, inf, inf],
            [-1e30, -1e30, -1e20, 1e30],
            [5000.0, 5000.0, 9000.0, 9000.0],
            [-9000.0, -9000.0, -5000.0, -5000.0],
            [60.0, 40.0, 20.0, 10.0],
        ]
    ).expand(3, -1, -1)
    # The value is the number of the image; other images and levels would show.
    maps = [torch.arange(3.0).view(3, 1, 1, 1).expand(-1, 2, *x.shape[-2:]) for x in maps_of()]
    level = torch.full(wild.shape[:2], 1) if by_level else None
    for crops in pool_boxes(maps, STRIDES, wild, level, 7):
        expected = torch.arange(3.0).view(3, 1, 1, 1).expand_as(crops)
        assert_close(crops, expected)


def test_samples_beyond_the_map_take_the_value_at_its_edge() -> None:
    feature = torch.tensor([[[[1.0, 2], [3.0, 4]]]])
    boxes = torch.tensor([[[-90.0, -90, -80, -80], [90.0, 90, 99, 99], [-90.0, 90, -80, 99]]])
    crops = FeatureTable([feature], [4]).pool(boxes, 0, 1)
    assert crops.flatten().tolist() == [1, 4, 3]


@pytest.mark.parametrize("by_level", [False, True])
def test_no_boxes_give_no_crops(by_level: bool) -> None:
    maps = [x.requires_grad_() for x in maps_of()]
    level = torch.zeros(3, 0, dtype=torch.long) if by_level else None
    crops = list(pool_boxes(maps, STRIDES, torch.zeros(3, 0, 4), level, 7))
    assert [x.shape for x in crops] == [(3, 0, 49, 5)] * (1 if by_level else 3)
    sum(x.sum() for x in crops).backward()
    assert not maps[0].grad.any()


def test_low_precision_maps_are_pooled_in_float32_also_under_autocast() -> None:
    maps, boxes = [x.bfloat16() for x in maps_of()], boxes_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crops = list(pool_boxes(maps, STRIDES, boxes, None, 3))
    for crop, feature, stride in zip(crops, maps, STRIDES, strict=True):
        assert_close(crop, aligned(feature.float(), stride, boxes, 3))

from __future__ import annotations

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator
from helpers import recipes

from distill.modeling.ssd import SSDAnchorGenerator

ROOT = math.sqrt(2)


def generator(**changes) -> SSDAnchorGenerator:
    arguments = {"sizes": [30, 60, 111], "aspect_ratios": [[0.5, 2.0], [2.0, 3.0]]}
    return SSDAnchorGenerator(**{**arguments, "strides": [8, 16], **changes})


def centered(x: float, y: float, sides: list[tuple[float, float]]) -> torch.Tensor:
    return torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in sides])


def test_the_first_cells_hold_two_squares_and_the_ratios() -> None:
    fine, coarse = generator()([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)])
    middle = math.sqrt(30 * 60)
    sides = [(30, 30), (middle, middle), (30 * ROOT, 30 / ROOT), (30 / ROOT, 30 * ROOT)]
    assert fine.tensor.shape == (2 * 3 * 4, 4)
    torch.testing.assert_close(fine.tensor[:4], centered(4, 4, sides))
    torch.testing.assert_close(fine.tensor[4:8], centered(12, 4, sides))
    torch.testing.assert_close(fine.tensor[12:16], centered(4, 12, sides))
    middle, three = math.sqrt(60 * 111), math.sqrt(3)
    sides = [(60, 60), (middle, middle), (60 / ROOT, 60 * ROOT), (60 / three, 60 * three)]
    torch.testing.assert_close(coarse.tensor, centered(8, 8, sides))


def test_ssd300_has_8732_anchors_and_the_last_lie_in_the_middle() -> None:
    cfg = recipes.load(recipes.ROOT / "configs" / "voc" / "ssd300_vgg16.yaml")
    cells, strides = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
    anchors = build_anchor_generator(cfg, [ShapeSpec(stride=stride) for stride in strides])
    assert anchors.num_anchors == [4, 6, 6, 6, 4, 4]
    levels = anchors([torch.zeros(1, 1, size, size) for size in cells])
    assert sum(map(len, levels)) == 8732
    middle = math.sqrt(264 * 315)
    sides = [(264, 264), (middle, middle), (264 * ROOT, 264 / ROOT), (264 / ROOT, 264 * ROOT)]
    torch.testing.assert_close(levels[-1].tensor, centered(150, 150, sides))
    torch.testing.assert_close(levels[4].tensor[4:5], centered(150, 50, [(213, 213)]))


@pytest.mark.parametrize("sizes", [[30, 60], [[30], [60], [111]]])
def test_sizes_that_are_not_one_more_than_levels_are_refused(sizes) -> None:
    with pytest.raises(ValueError, match="ANCHOR_GENERATOR.SIZES .* flat list of 3 sizes"):
        generator(sizes=sizes)


def test_ratios_of_another_number_of_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="ASPECT_RATIOS has 3 lists, but SSD has 2 levels"):
        generator(aspect_ratios=[[2.0]] * 3)

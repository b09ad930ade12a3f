"""Which levels are compared, and where."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes

from distill.views.levels import Level, assign_levels, common_region, match_levels


def shapes(channels: int = 8, **strides: int) -> dict[str, ShapeSpec]:
    return {name: ShapeSpec(channels=channels, stride=stride) for name, stride in strides.items()}


def test_levels_are_paired_by_stride_from_fine_to_coarse() -> None:
    levels = match_levels(shapes(8, p4=16, p2=4, p3=8), shapes(12, p2=4, p3=8, p4=16, p5=32))
    assert levels == (
        Level("p2", "p2", 4, 8, 12),
        Level("p3", "p3", 8, 8, 12),
        Level("p4", "p4", 16, 8, 12),
    )


def test_names_may_differ_where_strides_are_equal() -> None:
    levels = match_levels(shapes(p3=8, p4=16), shapes(res3=8, res4=16))
    assert [(x.student, x.teacher, x.stride) for x in levels] == [
        ("p3", "res3", 8),
        ("p4", "res4", 16),
    ]


def test_of_several_levels_with_one_stride_the_one_of_the_same_name_is_taken() -> None:
    (level,) = match_levels(shapes(res4=16), shapes(p4=16, res4=16))
    assert level.teacher == "res4"


def test_the_same_name_does_not_count_where_strides_differ() -> None:
    levels = match_levels(shapes(p2=4, p3=8), shapes(p2=8, p3=4))
    assert [(x.student, x.teacher) for x in levels] == [("p2", "p3"), ("p3", "p2")]


def test_levels_can_be_chosen() -> None:
    both = shapes(p2=4, p3=8, p4=16)
    assert [x.student for x in match_levels(both, both, ("p4", "p2"))] == ["p2", "p4"]


def test_no_common_stride_is_refused_with_names_and_keys() -> None:
    with pytest.raises(ValueError) as error:
        match_levels(shapes(p2=4), shapes(res4=16))
    for part in ("p2 at stride 4", "res4 at stride 16", "MODEL.FPN.IN_FEATURES"):
        assert part in str(error.value)


def test_a_chosen_level_without_partner_is_refused() -> None:
    with pytest.raises(ValueError, match=r"level p2 .*stride 4.* no partner.*DISTILL.LEVELS"):
        match_levels(shapes(p2=4, p3=8), shapes(p3=8), ("p2",))


def test_a_chosen_level_that_the_student_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"DISTILL.LEVELS names p7.*p2 at stride 4"):
        match_levels(shapes(p2=4), shapes(p2=4, p7=128), ("p7",))


def test_maps_are_cropped_at_the_right_and_the_bottom() -> None:
    student = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    teacher = torch.arange(2 * 5 * 5 * 5).reshape(2, 5, 5, 5)
    mine, other = common_region(student, teacher)
    assert torch.equal(mine, student[:, :, :4, :5])
    assert torch.equal(other, teacher[:, :, :4, :5])


# ------------------------------------------------------------- boxes


def levels_of(*strides: int) -> tuple[Level, ...]:
    return tuple(Level(f"s{s}", f"s{s}", s, 8, 8) for s in strides)


def squares(*sides: float) -> torch.Tensor:
    """(1, P, 4) boxes somewhere."""
    return torch.tensor([[[7.0, 3.0, 7.0 + side, 3.0 + side] for side in sides]])


def test_boxes_of_the_canonical_size_are_on_stride_16_and_others_an_octave_apart() -> None:
    sides = (1, 55, 57, 111, 113, 223, 225, 447, 449, 5000)
    found = assign_levels(squares(*sides), levels_of(4, 8, 16, 32), 224)
    assert found.tolist() == [[0, 0, 0, 0, 1, 1, 2, 2, 3, 3]]
    found = assign_levels(squares(31, 33, 63, 65), levels_of(4, 8, 16, 32), 64)
    assert found.tolist() == [[0, 1, 1, 2]]


def test_the_area_decides_not_a_side() -> None:
    boxes = torch.tensor([[[0.0, 0, 400, 140], [0.0, 0, 140, 400], [0.0, 0, 400, 100]]])
    assert assign_levels(boxes, levels_of(4, 8, 16, 32), 224).tolist() == [[2, 2, 1]]


def test_levels_are_those_of_detectron2s_pooler() -> None:
    corners = torch.rand(2, 50, 2) * 300
    boxes = torch.cat([corners, corners + 2 ** (2 + 8 * torch.rand(2, 50, 2))], dim=-1)
    expected = assign_boxes_to_levels([Boxes(x) for x in boxes], 2, 6, 224, 4).view(2, 50)
    assert len(expected.unique()) > 3
    assert torch.equal(assign_levels(boxes, levels_of(4, 8, 16, 32, 64), 224), expected)


def test_boxes_of_a_stride_that_is_left_out_go_to_the_next_coarser_level() -> None:
    boxes = squares(50, 150, 250, 500, 5000)
    assert assign_levels(boxes, levels_of(4, 16, 64), 224).tolist() == [[0, 1, 1, 2, 2]]
    assert assign_levels(boxes, levels_of(16), 224).tolist() == [[0] * 5]


def test_boxes_that_are_no_boxes_get_a_level_that_exists() -> None:
    nan, inf = float("nan"), float("inf")
    boxes = torch.tensor(
        [[[nan] * 4, [0, 0, nan, 5], [-inf, -inf, inf, inf], [0, 0, 0, 0], [9, 0, 0, 9]]]
    )
    found = assign_levels(boxes, levels_of(4, 8, 16), 224)
    assert found.shape == (1, 5) and found.amin() >= 0 and found.amax() <= 2
    assert assign_levels(torch.zeros(3, 0, 4), levels_of(4, 8), 224).shape == (3, 0)

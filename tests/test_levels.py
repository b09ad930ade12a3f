"""Which levels are compared, and where."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec

from distill.levels import Level, common_region, match_levels


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

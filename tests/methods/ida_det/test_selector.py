"""Which proposals are proposed, what they are scored by, and which are selected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import tiny, tiny_ida
from torch import Tensor
from torchvision.ops import roi_align

from distill.methods import IDaDet
from distill.methods.ida_det.discrepancy import proposal_discrepancy
from distill.methods.ida_det.selector import SelectedProposals
from distill.views.proposals import Proposals

SIZE = (64, 112)
LEVELS = tiny_ida.levels_of(4, 8, 16)


def shown(
    student: Proposals, teacher: Proposals
) -> tuple[tiny_ida.Shown, tiny_ida.Shown, list[tuple[Tensor, Tensor]]]:
    """Both detectors' signals with maps of noise, and the maps by level."""
    images = len(student.boxes)
    maps = [tiny_ida.maps_at_random(images, SIZE, 4, 8, 16) for _ in range(2)]
    pairs = [(maps[0][x.student], maps[1][x.teacher]) for x in LEVELS]
    return tiny_ida.Shown(maps[0], student), tiny_ida.Shown(maps[1], teacher), pairs


def select(
    student: Proposals, teacher: Proposals, **fields: Any
) -> tuple[SelectedProposals, list[tuple[Tensor, Tensor]]]:
    mine, other, pairs = shown(student, teacher)
    return tiny_ida.selector_of(**fields).select(mine, other, pairs, LEVELS), pairs


def boxes_of(selected: SelectedProposals) -> list[list[list[float]]]:
    return [b[k].tolist() for b, k in zip(selected.boxes, selected.kept, strict=True)]


def square(at: float) -> list[float]:
    return [at, 0.0, at + 10, 10.0]


# ------------------------------------------------------------- proposing


def test_the_proposals_of_both_detectors_stand_in_one_table() -> None:
    student = tiny_ida.proposals_of([[square(0)], [square(20), square(40)]])
    teacher = tiny_ida.proposals_of([[square(60), square(80)], []])
    selected, _ = select(student, teacher, selection="all")
    assert boxes_of(selected) == [[square(0), square(60), square(80)], [square(20), square(40)]]
    assert selected.proposals.valid.sum(1).tolist() == [3, 2]


def test_each_detector_has_its_own_quota_threshold_and_fallback() -> None:
    student = tiny_ida.proposals_of([[square(0), square(20), square(40)]], [[0.1, 0.3, 0.2]])
    teacher = tiny_ida.proposals_of([[square(60), square(80), square(90)]], [[0.9, 0.8, 0.95]])

    def proposed(**fields: Any) -> list[list[float]]:
        selected, _ = select(student, teacher, selection="all", **fields)
        return boxes_of(selected)[0]

    assert proposed(topk=1) == [square(20), square(90)]
    confident = {"objectness_threshold": 0.85}
    assert proposed(**confident, fallback_topk=0) == [square(90), square(60)]
    assert proposed(**confident, fallback_topk=2) == [
        *(square(20), square(40)),
        *(square(90), square(60)),
    ]


def test_suppression_within_and_between_the_detectors() -> None:
    # The student's two overlap each other, and the teacher's one both.
    student = tiny_ida.proposals_of([[square(0), square(1)]], [[0.5, 0.6]])
    teacher = tiny_ida.proposals_of([[square(2), square(50)]], [[0.9, 0.2]])
    expected = {
        (): [square(1), square(0), square(2), square(50)],
        ("nms_threshold",): [square(1), square(2), square(50)],
        ("joint_nms_threshold",): [square(2), square(50)],
    }
    for keys, boxes in expected.items():
        selected, _ = select(student, teacher, selection="all", **dict.fromkeys(keys, 0.5))
        assert boxes_of(selected)[0] == boxes


# ------------------------------------------------------------- scores


def slow_discrepancy(
    pairs: list[tuple[Tensor, Tensor]], boxes: Tensor, resolution: int, temperature: float
) -> list[Tensor]:
    """(N, P) by level, from torchvision's crops."""
    found = []
    for maps, level in zip(pairs, LEVELS, strict=True):
        crops = (
            roi_align(x, list(boxes), resolution, 1 / level.stride, sampling_ratio=1, aligned=True)
            for x in maps
        )
        found.append(proposal_discrepancy(*crops, temperature=temperature).view(boxes.shape[:2]))
    return found


@pytest.mark.parametrize(
    "fields", [{}, {"resolution": 3}, {"temperature": 0.3}, {"resolution": 5, "temperature": 2.0}]
)
def test_the_discrepancy_is_the_mean_over_every_level(fields: dict) -> None:
    proposals = [tiny_ida.proposals_at_random(2, 9, SIZE) for _ in range(2)]
    selected, pairs = select(*proposals, **fields)
    chosen = {"resolution": 7, "temperature": 1.0, **fields}
    by_level = slow_discrepancy(pairs, selected.proposals.boxes, **chosen)
    expected = torch.stack(by_level).mean(0)
    torch.testing.assert_close(selected.scores, expected, rtol=1e-3, atol=1e-3)
    # The number is gamma's, the order the discrepancy's.
    assert selected.kept.shape == (2, 11) and selected.kept.all()
    assert torch.equal(selected.index, expected.topk(11).indices)


def test_assigned_proposals_are_compared_on_their_own_level() -> None:
    proposals = [tiny_ida.proposals_at_random(2, 9, SIZE) for _ in range(2)]
    selected, pairs = select(*proposals, pool_levels="assigned", canonical_box_size=60)
    boxes = selected.proposals.boxes
    side = (boxes[..., 2:] - boxes[..., :2]).prod(-1).sqrt()
    # 60 belongs on stride 16, 30 on stride 8.
    level = (side >= 30).long() + (side >= 60).long()
    assert len(level.unique()) == 3
    torch.testing.assert_close(selected.level, level.gather(1, selected.index))
    # The floor under the variance is a mean over what is compared, so that it differs slightly.
    expected = torch.stack(slow_discrepancy(pairs, boxes, 7, 1.0)).gather(0, level[None])[0]
    torch.testing.assert_close(selected.scores, expected, rtol=5e-2, atol=5e-2)


def test_without_a_level_of_their_own_proposals_have_none() -> None:
    proposals = [tiny_ida.proposals_at_random(1, 3, SIZE) for _ in range(2)]
    selected, _ = select(*proposals)
    assert selected.level is None
    finest = tiny_ida.selector_of(pool_levels="finest")
    assert finest.used_levels(LEVELS) == LEVELS[:1]
    assert tiny_ida.selector_of().used_levels(LEVELS) == LEVELS


def test_a_place_where_the_maps_differ_is_found_on_maps_that_are_not_square() -> None:
    boxes = [[8.0, 8, 32, 24], [72, 8, 104, 24], [8, 40, 32, 56], [72, 40, 104, 56]]
    student = tiny_ida.proposals_of([boxes, boxes])
    mine, other, pairs = shown(student, tiny_ida.proposals_of([[], []]))
    where = {0: (slice(8, 24), slice(72, 104)), 1: (slice(40, 56), slice(8, 32))}
    for level, (first, second) in zip(LEVELS, pairs, strict=True):
        second.copy_(first)
        for image, (rows, columns) in where.items():
            patch = (
                slice(rows.start // level.stride, rows.stop // level.stride + 1),
                slice(columns.start // level.stride, columns.stop // level.stride + 1),
            )
            second[(image, slice(None), *patch)] = torch.randn_like(
                second[(image, slice(None), *patch)]
            )
    selected = tiny_ida.selector_of(fraction=0.25).select(mine, other, pairs, LEVELS)
    assert boxes_of(selected) == [[boxes[1]], [boxes[2]]]


# ------------------------------------------------------------- selections


def test_objectness_selects_the_most_probable_of_both() -> None:
    student = tiny_ida.proposals_of([[square(0), square(20)]], [[0.2, 0.7]])
    teacher = tiny_ida.proposals_of([[square(40), square(60), square(80)]], [[0.1, 0.9, 0.3]])
    selected, _ = select(student, teacher, selection="objectness", fraction=0.5)
    assert boxes_of(selected) == [[square(60), square(20), square(80)]]


def test_all_keeps_every_proposal_but_no_padding() -> None:
    student = tiny_ida.proposals_of([[square(0)], []])
    teacher = tiny_ida.proposals_of([[], [square(20), square(40)]])
    selected, _ = select(student, teacher, selection="all", fraction=0.1)
    assert boxes_of(selected) == [[square(0)], [square(20), square(40)]]


def test_chance_is_repeatable_under_a_seed_and_blind_to_objectness() -> None:
    proposals = [tiny_ida.proposals_at_random(2, 40, SIZE) for _ in range(2)]

    def drawn(seed: int) -> set[tuple[int, int]]:
        torch.manual_seed(seed)
        selected, _ = select(*proposals, selection="random", fraction=0.25)
        return {(i, j) for i, row in enumerate(selected.index.tolist()) for j in row}

    assert drawn(0) == drawn(0) != drawn(1)
    everything = set.union(*(drawn(seed) for seed in range(40)))
    assert len(everything) == 2 * 80


@pytest.mark.parametrize("selection", ["discrepancy", "random", "objectness"])
def test_every_image_has_its_own_number_of_selected_proposals(selection: str) -> None:
    student = tiny_ida.proposals_of([[square(i) for i in range(n)] for n in (7, 1, 0, 3)])
    teacher = tiny_ida.proposals_of([[square(50 + i) for i in range(n)] for n in (3, 0, 0, 5)])
    selected, _ = select(student, teacher, selection=selection, fraction=0.6)
    # Of 10, 1, 0 and 8 proposals.
    assert selected.kept.sum(1).tolist() == [6, 1, 0, 5]
    assert selected.proposals.valid.gather(1, selected.index)[selected.kept].all()
    found = boxes_of(selected)
    assert len({tuple(x) for x in found[0]}) == 6 and found[1] == [square(0)]


def test_fewer_proposals_than_the_fraction_asks_for_still_give_one() -> None:
    student = tiny_ida.proposals_of([[square(0), square(20)], [square(5)]])
    selected, _ = select(student, tiny_ida.proposals_of([[], []]), fraction=0.1)
    assert selected.kept.sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("selection", ["discrepancy", "random", "objectness", "all"])
@pytest.mark.parametrize("pool_levels", ["every", "assigned"])
def test_without_any_proposal_nothing_is_selected(selection: str, pool_levels: str) -> None:
    empty = tiny_ida.proposals_of([[], []])
    selected, _ = select(
        empty, empty, selection=selection, pool_levels=pool_levels, joint_nms_threshold=0.5
    )
    assert selected.boxes.shape == (2, 0, 4) and not selected.kept.any()
    assert [x.item() for x in selected.means()] == [0, 0]


def test_the_means_leave_padding_out() -> None:
    student = tiny_ida.proposals_of([[square(0), square(20)], [square(0)]], [[0.2, 0.8], [0.6]])
    selected, _ = select(
        student, tiny_ida.proposals_of([[], []]), selection="objectness", fraction=0.5
    )
    mean, chosen = selected.means()
    assert mean.item() == pytest.approx((0.2 + 0.8 + 0.6) / 3)
    assert chosen.item() == pytest.approx((0.8 + 0.6) / 2)


def test_selecting_keeps_no_graph() -> None:
    proposals = [tiny_ida.proposals_at_random(1, 5, SIZE) for _ in range(2)]
    mine, other, pairs = shown(*proposals)
    pairs = [(x.requires_grad_(), y) for x, y in pairs]
    selected = tiny_ida.selector_of().select(mine, other, pairs, LEVELS)
    assert not selected.scores.requires_grad and not selected.boxes.requires_grad


# ------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fraction", 0.0, "FRACTION is 0.0; it must be above 0 and at most 1"),
        ("fraction", 2.0, "FRACTION is 2.0; it must be above 0 and at most 1"),
        ("fraction", -0.5, "FRACTION is -0.5; it must be"),
        ("selection", "odd", 'SELECTION is "odd"; choose one of discrepancy, random, all'),
        ("pool_levels", "odd", 'POOL_LEVELS is "odd"; choose one of every, assigned, finest'),
        ("temperature", 0.0, "TEMPERATURE is 0.0; it must be above 0"),
        ("resolution", 0, "RESOLUTION is 0; it must be at least 1"),
        ("canonical_box_size", -1, "CANONICAL_BOX_SIZE is -1; it must be at least 1"),
        ("topk", 0, "TOPK is 0; it must be at least 1"),
        ("objectness_threshold", -0.1, "OBJECTNESS_THRESHOLD is -0.1; it must be at least 0"),
        ("fallback_topk", -1, "FALLBACK_TOPK is -1; it must be at least 0"),
        ("nms_threshold", -0.1, "NMS_THRESHOLD is -0.1; it must be at least 0"),
        ("joint_nms_threshold", -0.1, "JOINT_NMS_THRESHOLD is -0.1; it must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused_with_their_key(
    field: str, value: Any, message: str
) -> None:
    cfg = tiny.rcnn_cfg(**{f"DISTILL__IDaDet__{field.upper()}": value})
    for build in (
        lambda: IDaDet.with_defaults(LEVELS, **{field: value}),
        lambda: IDaDet(cfg, LEVELS),
    ):
        with pytest.raises(ValueError) as error:
            build()
        assert str(error.value).startswith(f"DISTILL.IDaDet.{message}")
        assert "\n" not in str(error.value)


def test_a_fraction_of_1_is_accepted() -> None:
    assert tiny_ida.selector_of(fraction=1.0).fraction == 1.0

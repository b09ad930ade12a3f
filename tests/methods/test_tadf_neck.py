"""Task-adaptive regularization on hand-made maps: which boxes are imitated where."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from helpers import tiny

from distill.methods import TADF, MethodOutput
from distill.methods.schedule import Schedule
from distill.views.levels import Level
from distill.views.student import StudentSignals

UNIT = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
STRIDES = {"p2": 4, "p3": 8, "p4": 16}


def level(name: str) -> Level:
    return Level(name, name, STRIDES[name], 2, 2)


def neck_loss(
    boxes: list[list[float]], targets: dict[str, float], **arguments: Any
) -> tuple[float, MethodOutput]:
    """The neck term of a student of zeros and a teacher of one value a level, at 128 pixels."""
    maps = {n: torch.zeros(1, 2, 128 // STRIDES[n], 128 // STRIDES[n]) for n in targets}
    student = StudentSignals(None, [tiny.example(boxes, (128, 128))], features=maps)
    teacher = SimpleNamespace(features={n: maps[n] + value for n, value in targets.items()})
    arguments = {"neck_weight": 1.0, "adapter": "none", **arguments}
    method = TADF.with_defaults(
        tuple(map(level, targets)),
        schedule=Schedule(),
        cls_weight=0,
        reg_weight=0,
        **arguments,
    )
    output = method(student, teacher)
    return output.losses["loss_tadf_neck"].item(), output


TARGETS = {"p2": 1.0, "p3": 10.0, "p4": 100.0}


@pytest.mark.parametrize(
    ("size", "expected"),
    [(8, "p2"), (16, "p2"), (31.9, "p2"), (32, "p3"), (63.9, "p3"), (64, "p4"), (128, "p4")],
)
def test_a_box_is_imitated_on_the_level_of_its_area(size: float, expected: str) -> None:
    # Boxes of 64 pixels belong on stride 16: sqrt(area) / 64 in powers of two from level 4.
    loss, _ = neck_loss([[0, 0, size, size]], TARGETS, canonical_box_size=64)
    # mask * C * v^2 / (2 C mask) is v^2 / 2 on that level, 0 on the others; the mean of three.
    assert loss == pytest.approx(TARGETS[expected] ** 2 / 6, rel=1e-5)


def test_the_area_and_not_a_side_decides() -> None:
    loss, _ = neck_loss([[0, 0, 128, 8]], TARGETS, canonical_box_size=64)  # sqrt(area) is 32
    assert loss == pytest.approx(TARGETS["p3"] ** 2 / 6, rel=1e-5)


def test_a_stride_that_is_left_out_gives_its_boxes_to_the_next_coarser_level() -> None:
    targets = {name: TARGETS[name] for name in ("p2", "p4")}
    for size, expected in ((16, "p2"), (40, "p4"), (100, "p4")):
        loss, _ = neck_loss([[0, 0, size, size]], targets, canonical_box_size=64)
        assert loss == pytest.approx(TARGETS[expected] ** 2 / 4, rel=1e-5)


def test_all_levels_are_imitated_where_asked_for() -> None:
    loss, _ = neck_loss([[0, 0, 16, 16]], TARGETS, level_assignment="all")
    # One cell on p4 with value 1 at most: 2 C sum(mask) stays above 1 as C is 2.
    assert loss == pytest.approx(sum(v**2 for v in TARGETS.values()) / 6, rel=1e-5)


def test_without_boxes_the_neck_term_is_zero() -> None:
    assert neck_loss([], TARGETS)[0] == 0


def test_the_weight_multiplies_the_term() -> None:
    once, _ = neck_loss([[0, 0, 16, 16]], TARGETS)
    assert neck_loss([[0, 0, 16, 16]], TARGETS, neck_weight=3.0)[0] == pytest.approx(3 * once)


def test_the_mean_of_the_mask_is_logged() -> None:
    _, output = neck_loss([[0, 0, 1, 1]], TARGETS, canonical_box_size=64)
    # One cell of 32 x 32 on p2, none elsewhere.
    assert output.diagnostics["tadf/mask_mean"].item() == pytest.approx(1 / 1024 / 3)

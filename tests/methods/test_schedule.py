"""Factors of a method over training."""

from __future__ import annotations

import math

import pytest
from helpers import tiny

from distill.methods.schedule import Schedule


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {0: 1, 50: 1, 100: 1, 1000: 1}),
        ("linear", {0: 1, 25: 0.75, 50: 0.5, 99: 0.01, 100: 0, 1000: 0}),
        ("staircase", {0: 1, 24: 1, 25: 0.75, 49: 0.75, 50: 0.5, 75: 0.25, 99: 0.25, 100: 0}),
        ("cosine", {0: 1, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0, 200: 0}),
    ],
)
def test_values_at_known_iterations(name: str, expected: dict[int, float]) -> None:
    schedule = Schedule(name, max_iter=100, stairs=4)
    assert {i: schedule(i) for i in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("max_iter", [12, 84, 600, 1001])
def test_the_staircase_takes_the_values_of_the_papers_epochs(max_iter: int) -> None:
    schedule = Schedule("staircase", max_iter=max_iter, stairs=12)
    seen = list(dict.fromkeys(round(schedule(i), 9) for i in range(max_iter)))
    assert seen == pytest.approx([1 - (e - 1) / 12 for e in range(1, 13)])


def test_the_decay_ends_at_its_end_factor() -> None:
    for name in ("linear", "staircase", "cosine"):
        schedule = Schedule(name, max_iter=10, end_factor=0.2)
        assert schedule(0) == 1
        assert schedule(10) == schedule(99) == pytest.approx(0.2)


def test_warm_up_rises_linearly_and_multiplies_the_decay() -> None:
    schedule = Schedule("linear", max_iter=100, warmup_iters=4)
    values = [schedule(i) for i in range(5)]
    assert values == pytest.approx([0.25, 0.5 * 0.99, 0.75 * 0.98, 0.97, 0.96])


def test_a_factor_depends_on_nothing_but_the_iteration() -> None:
    schedule = Schedule("cosine", max_iter=37, warmup_iters=5)
    forward = [schedule(i) for i in range(40)]
    assert [schedule(i) for i in reversed(range(40))] == forward[::-1]
    assert min(forward) >= 0 and max(forward) <= 1


def test_the_config_takes_the_length_of_training_unless_it_has_its_own() -> None:
    node = tiny.rcnn_cfg().DISTILL.TADF.SCHEDULE
    assert Schedule.from_config(node, 800) == Schedule("linear", 800, 0.0, 12, 0)
    node.MAX_ITER, node.NAME, node.WARMUP_ITERS = 300, "staircase", 7
    assert Schedule.from_config(node, 800) == Schedule("staircase", 300, 0.0, 12, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "step"}, 'NAME is "step"; choose one of constant, linear, staircase, cosine'),
        ({"max_iter": 0}, "MAX_ITER is 0; it must be at least 1"),
        ({"stairs": 0}, "STAIRS is 0"),
        ({"warmup_iters": -1}, "WARMUP_ITERS is -1"),
        ({"end_factor": -0.5}, "END_FACTOR is -0.5"),
    ],
)
def test_bad_values_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)

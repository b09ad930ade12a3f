"""Rounds are interleaved, warm-up is left out, and memory is that of one variant."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from benchmark import PAIRS, build_step, peak_memory, spread, time_rounds
from torch.utils.benchmark import Measurement, TaskSpec


def test_a_round_runs_every_step_once_and_warm_up_is_not_measured() -> None:
    ran: list[str] = []
    steps = {name: lambda name=name: ran.append(name) for name in "abc"}
    ticks = itertools.count()
    measured = time_rounds(steps, rounds=3, clock=lambda: next(ticks), warm_up=2)
    assert "".join(ran) == "abc" * 5
    assert {name: x.times for name, x in measured.items()} == {name: [1, 1, 1] for name in "abc"}


def test_a_spread_is_median_and_extremes() -> None:
    measured = Measurement(1, [3.0, 1.0, 7.0, 2.0], TaskSpec("step", setup=""))
    assert spread(measured) == {"median": 2.5, "min": 1.0, "max": 7.0}


def test_peak_memory_holds_at_least_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    pair = dataclasses.replace(PAIRS["digits"], image_size=(64, 64), batch_size=1)
    model = build_step("teacher", pair, "cpu").model
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    # A process that has allocated much before does not hide it.
    torch.zeros(2**26).fill_(1)
    assert weights < peak_memory("teacher", pair, "cpu", threads=1, steps=1) < 20 * weights

"""What a finished run leaves behind for tables, and how its training time is counted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import HookBase, TrainerBase
from torch import nn

from distill.engine.results import RunResults, TrainingClock, summarize_boxes

EVALUATION = {"bbox": {"AP": 41.5, "AP50": 60.0, "AP75": float("nan"), "APs": 1.0}}


class SlowHook(HookBase):
    """Stands for evaluation: spends 100 of the fake clock's seconds after each step."""

    def __init__(self, now: SimpleNamespace) -> None:
        self.now = now

    def after_step(self) -> None:
        self.now.seconds += 100


class FakeTimeTrainer(TrainerBase):
    """Steps of one fake second; fails before iteration `fails_at`."""

    def __init__(self, cfg: CfgNode, now: SimpleNamespace, fails_at: int = -1) -> None:
        super().__init__()
        self.cfg, self.now, self.fails_at = cfg, now, fails_at
        self.student = nn.Linear(10, 100)
        self.seed = 5
        self._last_eval_results = EVALUATION
        self.clock = TrainingClock()
        self.register_hooks([self.clock, SlowHook(now), RunResults(self.clock)])

    def run_step(self) -> None:
        if self.iter == self.fails_at:
            raise FloatingPointError("a loss is not finite")
        self.now.seconds += 1


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now.seconds)
    return now


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.DATASETS.TEST = ("some_test",)
    return cfg


def test_results_hold_metrics_size_length_time_and_seed(
    cfg: CfgNode, now: SimpleNamespace, tmp_path: Path
) -> None:
    FakeTimeTrainer(cfg, now).train(0, 7)
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "ap": 41.5,
        "ap50": 60.0,
        "ap75": None,
        "params_m": 0.0011,
        "iterations": 7,
        "train_seconds": 7.0,
        "seed": 5,
        "dataset": "some_test",
    }


def test_time_is_summed_over_resumes_without_that_of_other_hooks(
    cfg: CfgNode, now: SimpleNamespace, tmp_path: Path
) -> None:
    first = FakeTimeTrainer(cfg, now)
    first.train(0, 3)
    second = FakeTimeTrainer(cfg, now)
    second.load_state_dict(first.state_dict())
    second.train(3, 10)
    assert json.loads((tmp_path / "results.json").read_text())["train_seconds"] == 10


def test_a_training_that_fails_leaves_no_results_not_even_old_ones(
    cfg: CfgNode, now: SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text("{}")
    # In the last iteration, where Detectron2's evaluation hook still evaluates.
    with pytest.raises(FloatingPointError):
        FakeTimeTrainer(cfg, now, fails_at=4).train(0, 5)
    assert not (tmp_path / "results.json").exists()


def test_several_datasets_are_all_kept_and_the_first_leads(
    cfg: CfgNode, now: SimpleNamespace, tmp_path: Path
) -> None:
    cfg.DATASETS.TEST = ("a", "b")
    trainer = FakeTimeTrainer(cfg, now)
    trainer._last_eval_results = {"a": {"bbox": {"AP": 1.0}}, "b": {"bbox": {"AP": 2.0}}}
    trainer.train(0, 1)
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["dataset"], results["ap"]) == ("a", 1.0)
    assert results["datasets"]["b"] == {"ap": 2.0, "ap50": None, "ap75": None}


def test_a_dataset_without_box_metrics_has_none() -> None:
    nothing = {"ap": None, "ap50": None, "ap75": None}
    assert summarize_boxes({}, ["a"]) == {"a": nothing}

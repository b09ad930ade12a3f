from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from helpers.tiny import build, changed
from pretraining.steps import Pretraining, evaluate, step_configs
from pretraining.trainer import ClassifierTrainer

from distill.utils.checkpoint import SafeCheckpointer


def _model(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def _assert_same(first: Path, second: Path) -> None:
    weights, others = _model(first), _model(second)
    assert weights.keys() == others.keys()
    assert [key for key in weights if not torch.equal(weights[key], others[key])] == []


def _interrupt(monkeypatch: pytest.MonkeyPatch, cfg: CfgNode, step: int) -> None:
    """Trains until the given step, counted over both halves, is about to begin."""
    steps_left, run_step = [step], ClassifierTrainer.run_step

    def run_or_stop(trainer: ClassifierTrainer) -> None:
        if not steps_left[0]:
            raise KeyboardInterrupt
        steps_left[0] -= 1
        run_step(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ClassifierTrainer, "run_step", run_or_stop)
        Pretraining(cfg).train()


def test_each_step_has_its_precision_folder_start_and_overrides(make_config, tmp_path):
    overrides = {"PRETRAIN__ACTIVATIONS_OPTS": ["SOLVER.WEIGHT_DECAY", 0.5]}
    first, second = step_configs(make_config(MODEL__WEIGHTS="start.pth", **overrides))
    assert not first.MODEL.BINARY.WEIGHTS and second.MODEL.BINARY.WEIGHTS
    assert first.MODEL.BINARY.ACTIVATIONS and second.MODEL.BINARY.ACTIVATIONS
    assert first.SOLVER.WEIGHT_DECAY == 0.5 and second.SOLVER.WEIGHT_DECAY == 0.0001
    folder = tmp_path / "run"
    assert (first.OUTPUT_DIR, second.OUTPUT_DIR) == (
        str(folder / "activations"),
        str(folder / "weights"),
    )
    assert first.MODEL.WEIGHTS == "start.pth"
    assert second.MODEL.WEIGHTS == str(folder / "activations" / "model_final.pth")
    # Other crops, which a run without a seed of its own draws anyway.
    assert (first.SEED, second.SEED) == (3, 4)
    assert [step.SEED for step in step_configs(make_config(SEED=-1))] == [-1, -1]


def test_a_single_step_stays_in_its_folder_and_trains_what_the_config_says(make_config, tmp_path):
    (step,) = step_configs(
        make_config(
            PRETRAIN__STEP="weights",
            MODEL__BINARY__WEIGHTS=False,
            MODEL__BINARY__ACTIVATIONS=False,
            MODEL__WEIGHTS="start.pth",
        )
    )
    assert step.OUTPUT_DIR == str(tmp_path / "run") and step.MODEL.WEIGHTS == "start.pth"
    assert not step.MODEL.BINARY.WEIGHTS and not step.MODEL.BINARY.ACTIVATIONS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PRETRAIN__STEP": "all"}, "PRETRAIN.STEP 'all' is unknown: use activations, weights"),
        ({"PRETRAIN__WEIGHTS_OPTS": ["SOLVER.BASE_RL", 1]}, "PRETRAIN.WEIGHTS_OPTS: .*BASE_RL"),
        (
            {"PRETRAIN__ACTIVATIONS_OPTS": ["SEED"]},
            "PRETRAIN.ACTIVATIONS_OPTS: 'SEED'.* no value",
        ),
    ],
)
def test_unknown_steps_and_overrides_are_refused(make_config, changes, message):
    with pytest.raises(ValueError, match=message):
        step_configs(make_config(**changes))


def test_the_detector_loads_the_whole_backbone(make_config, tmp_path):
    cfg = make_config(SOLVER__MAX_ITER=1)
    results = Pretraining(cfg).train()
    assert results.keys() == {"activations", "weights"}

    detector = build(cfg, seed=9)
    checkpointer = SafeCheckpointer(detector)
    checkpointer.load(str(tmp_path / "run" / "backbone.pth"))
    assert checkpointer.incompatible.unexpected_keys == []
    assert checkpointer.incompatible.incorrect_shapes == []
    missing = checkpointer.incompatible.missing_keys
    assert missing and not any(key.startswith("backbone.bottom_up.") for key in missing)
    trained = _model(tmp_path / "run" / "weights" / "model_final.pth")
    bottom_up = detector.backbone.bottom_up.state_dict()
    assert bottom_up
    for key, value in bottom_up.items():
        assert torch.equal(value, trained[f"backbone.bottom_up.{key}"]), key
    precision = bottom_up["res2.0.conv.precision"]
    assert precision.tolist() == [1, 1]


def test_the_results_of_both_steps_lie_in_one_file(make_config, tmp_path):
    trained = Pretraining(make_config(SOLVER__MAX_ITER=1)).train()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    accuracies = {name: step["classification"]["top1"] for name, step in trained.items()}
    assert {name: step["top1"] for name, step in results["stages"].items()} == accuracies
    assert (results["top1"], results["dataset"]) == (accuracies["weights"], "val")
    assert results["iterations"] == 2


def test_the_second_step_starts_where_the_first_ended(make_config, tmp_path):
    still = {"PRETRAIN__WEIGHTS_OPTS": ["SOLVER.BASE_LR", 0.0]}
    Pretraining(make_config(MODEL__BINARY__QUANTIZER="learned", **still)).train()
    first = _model(tmp_path / "run" / "activations" / "model_final.pth")
    second = _model(tmp_path / "run" / "weights" / "model_final.pth")
    assert first["backbone.bottom_up.res2.0.conv.precision"].tolist() == [0, 1]
    for key in ("backbone.bottom_up.res2.0.conv.weight", "linear.weight"):
        assert torch.equal(first[key], second[key])
    weight = second["backbone.bottom_up.res2.0.conv.weight"]
    scale = second["backbone.bottom_up.res2.0.conv.scale"]
    torch.testing.assert_close(scale, weight.abs().mean(dim=(1, 2, 3)))


def test_a_run_resumed_at_any_step_equals_an_uninterrupted_one(make_config, tmp_path, monkeypatch):
    whole = make_config(OUTPUT_DIR=str(tmp_path / "whole"))
    results = Pretraining(whole).train()
    # In the first step, at the border, and in the second.
    for step in (1, 2, 3):
        cfg = changed(whole, OUTPUT_DIR=str(tmp_path / str(step)))
        _interrupt(monkeypatch, cfg, step)
        assert not (tmp_path / str(step) / "backbone.pth").exists()
        resumed = Pretraining(cfg, resume=True).train()
        assert resumed["weights"] == results["weights"]
        assert ("activations" in resumed) == (step < 2)
        _assert_same(tmp_path / str(step) / "backbone.pth", tmp_path / "whole" / "backbone.pth")


def test_resuming_a_new_run_does_not_continue_an_older_one(make_config, tmp_path, monkeypatch):
    new = make_config(SEED=4)
    Pretraining(changed(new, OUTPUT_DIR=str(tmp_path / "whole"))).train()
    Pretraining(make_config(SEED=3)).train()
    _interrupt(monkeypatch, new, 1)
    assert not (tmp_path / "run" / "backbone.pth").exists()
    Pretraining(new, resume=True).train()
    _assert_same(tmp_path / "run" / "backbone.pth", tmp_path / "whole" / "backbone.pth")


def test_a_finished_run_that_is_resumed_stays_as_it_is(make_config, tmp_path):
    first = Pretraining(make_config()).train()
    before = _model(tmp_path / "run" / "backbone.pth")
    again = Pretraining(make_config(), resume=True).train()
    assert again == {"weights": first["weights"]}
    after = _model(tmp_path / "run" / "backbone.pth")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_last_step_is_evaluated_without_its_teacher(make_config, tmp_path):
    with pytest.raises(ValueError, match="no weights to evaluate"):
        evaluate(make_config())
    results = Pretraining(make_config()).train()
    cfg = make_config(PRETRAIN__TEACHER__NAME="no such network")
    assert evaluate(cfg, resume=True) == results["weights"]
    weights = str(tmp_path / "run" / "weights" / "model_final.pth")
    elsewhere = str(tmp_path / "elsewhere")
    assert (
        evaluate(changed(cfg, MODEL__WEIGHTS=weights, OUTPUT_DIR=elsewhere)) == results["weights"]
    )

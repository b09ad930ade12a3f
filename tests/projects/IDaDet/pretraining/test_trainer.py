from __future__ import annotations

import json

import pytest
import torch
from pretraining.steps import step_configs
from pretraining.trainer import ClassifierTrainer


def _trainer(cfg) -> ClassifierTrainer:
    (step,) = step_configs(cfg)
    return ClassifierTrainer(step)


def test_the_learning_rate_falls_linearly_to_zero(make_config, tmp_path):
    cfg = make_config(PRETRAIN__STEP="weights", SOLVER__MAX_ITER=4, TEST__EVAL_PERIOD=3)
    (tmp_path / "run").mkdir()
    trainer = _trainer(cfg)
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    rates = []
    for _ in range(5):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.scheduler.step()
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025, 0.0])


def test_the_warm_up_comes_before_the_decay(make_config, tmp_path):
    warm_up = {"SOLVER__WARMUP_ITERS": 2, "SOLVER__WARMUP_FACTOR": 0.5}
    trainer = _trainer(make_config(PRETRAIN__STEP="weights", SOLVER__MAX_ITER=4, **warm_up))
    rates = []
    for _ in range(4):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.scheduler.step()
    # It ends where the decay is by then, at one half.
    assert rates == pytest.approx([0.005, 0.005, 0.005, 0.0025])


def test_accuracies_are_written_with_the_losses(make_config, tmp_path):
    cfg = make_config(PRETRAIN__STEP="weights", SOLVER__MAX_ITER=3, TEST__EVAL_PERIOD=2)
    (tmp_path / "run").mkdir()
    trainer = _trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    lines = [json.loads(line) for line in open(tmp_path / "run" / "metrics.json")]
    evaluated = {x["iteration"]: x for x in lines if "classification/top1" in x}
    assert evaluated.keys() == {1, 3}
    assert evaluated[3]["classification/top5"] == results["classification"]["top5"] == 100.0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["top5"] == 100.0


def test_the_teacher_is_evaluated_on_the_same_images(make_config):
    with pytest.raises(ValueError, match="no teacher to evaluate"):
        _trainer(make_config(PRETRAIN__STEP="weights")).test_teacher()
    teacher = {"PRETRAIN__TEACHER__NAME": "squeezenet1_1", "PRETRAIN__TEACHER__ALLOW_RANDOM": True}
    size = {"PRETRAIN__CROP_SIZE": 32, "PRETRAIN__RESIZE": 32}
    trainer = _trainer(make_config(PRETRAIN__STEP="weights", **teacher, **size))
    classifier = trainer.student.teacher.model.network.classifier
    with torch.no_grad():
        classifier[1].weight.zero_()
        # All images become the class b.
        classifier[1].bias.copy_(torch.tensor([1.0, 3.0, 2.0]))
    accuracy = trainer.test_teacher()["classification"]
    assert accuracy == pytest.approx({"top1": 100 / 3, "top5": 100.0})

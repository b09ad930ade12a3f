from __future__ import annotations

import pytest
import torch
from pretraining.evaluation import TopKAccuracy


def _evaluate(*batches: tuple[list[int], torch.Tensor]) -> dict[str, float]:
    evaluator = TopKAccuracy()
    evaluator.reset()
    for labels, scores in batches:
        evaluator.process([{"label": label} for label in labels], scores)
    return evaluator.evaluate()["classification"]


def test_by_hand():
    # The classes 6, 5, 4, ... in the order of their scores.
    scores = torch.arange(7.0)
    first = [6, 2, 1], scores.repeat(3, 1)
    last = [5], scores.repeat(1, 1)
    assert _evaluate(first, last) == {"top1": 25.0, "top5": 75.0}


def test_fewer_than_five_classes():
    assert _evaluate(([0, 1], torch.eye(2))) == {"top1": 100.0, "top5": 100.0}


def test_an_image_that_could_not_be_read_is_wrong():
    assert _evaluate(([0, -1], torch.eye(2))) == pytest.approx({"top1": 50.0, "top5": 50.0})

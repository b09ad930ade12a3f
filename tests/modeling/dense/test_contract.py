"""Each dense detector of this library offers what `distill.views.contract` asks for."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny, tiny_dense
from torch import Tensor, nn

from distill.views.contract import (
    DenseHead,
    DistributionHead,
    OneStageDetector,
    TwoStageDetector,
    offered_signals,
)
from distill.views.dense import DensePredictions
from distill.views.student import record_student

OWN = {"atss": tiny_dense.atss, "gfl": tiny_dense.gfl, "ssd": tiny_dense.ssd}


@pytest.fixture(params=OWN)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def seen(model: nn.Module) -> tuple[DensePredictions, Tensor]:
    """Its predictions of a batch, and the labels of its anchors."""
    with record_student(model.train(), tiny.batch()) as signals:
        tiny.step(model, tiny.batch())
    return signals.dense(), signals.anchor_labels


def test_it_is_recognized_by_its_members(name: str) -> None:
    model = OWN[name]()
    assert isinstance(model, OneStageDetector) and isinstance(model, DenseHead)
    assert isinstance(model, DistributionHead) == (name == "gfl")
    assert not isinstance(model, TwoStageDetector)
    expected = {"features", "proposals", "dense"} | ({"distribution"} if name == "gfl" else set())
    assert offered_signals(model) == expected


def test_every_member_gives_what_the_contract_says(name: str) -> None:
    model = OWN[name]()
    predictions, labels = seen(model)
    counts = []
    for level in predictions:
        assert level.logits.shape == (2, len(level.anchors), tiny.NUM_CLASSES)
        assert level.boxes().shape == (2, len(level.anchors), 4)
        counts.append(len(level.anchors))
    assert labels.shape == (2, sum(counts)) and labels.dtype == torch.int64
    outputs = [
        [predictions.level(index).output(number) for index in range(len(counts))]
        for number in range(len(predictions.outputs))
    ]
    objectness = model.objectness(outputs)
    assert [tuple(x.shape) for x in objectness] == [(2, count) for count in counts]
    assert all(0 <= x.min() and x.max() <= 1 for x in objectness)


def test_a_delta_of_gfl_has_its_bins_for_each_side() -> None:
    model = tiny_dense.gfl()
    predictions, _ = seen(model)
    assert all(level.deltas.shape[-1] == 4 * model.num_bins for level in predictions)
    maps = [torch.zeros(1, 1, *size) for size in predictions.sizes]
    anchors = model.anchor_generator(maps)
    weights = model.valuable_region(anchors, [x["instances"] for x in tiny.batch()])
    assert weights.shape == (2, sum(len(x) for x in anchors)) and weights.any()

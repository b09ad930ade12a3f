"""The teacher's detections from its signals, and the signals of a part of the batch."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import tiny
import torch

from distill.views.teacher import FrozenTeacher


def _images(*sizes: tuple[int, int]) -> list[dict[str, Any]]:
    return [tiny.example([], size, seed=seed) for seed, size in enumerate(sizes)]


def _fcos() -> Any:
    model = tiny.build_fcos()
    model.test_score_thresh = 0.0
    return model


def _retinanet() -> Any:
    return tiny.build(tiny.retinanet_cfg(MODEL__RETINANET__SCORE_THRESH_TEST=0.0))


_DETECTORS = {"retinanet": _retinanet, "fcos": _fcos}


@pytest.mark.parametrize("family", ["retinanet", "fcos"])
def test_detecting_leaves_the_signals_as_they_were(family: str) -> None:
    inputs = _images((16, 16), (16, 16))
    signals = FrozenTeacher(_DETECTORS[family]()).signals(inputs)
    before = [[x.clone() for x in levels] for levels in signals.head_outputs]
    assert all(len(x) for x in signals.detections([0, 1]))
    after = signals.head_outputs
    assert all(
        torch.equal(x, y)
        for first, second in zip(before, after, strict=True)
        for x, y in zip(first, second, strict=True)
    )


def test_chosen_signals_are_the_rows_of_the_whole_batch_s() -> None:
    teacher = FrozenTeacher(tiny.build(tiny.retinanet_cfg()))
    inputs = _images((64, 64), (96, 64), (64, 48))
    whole = teacher.signals(inputs)
    assert whole.head_outputs and whole.images
    for indices in ([0, 2], [1, 2], [0]):
        part = whole.select(indices)
        assert "features" in vars(part) and "head_outputs" in vars(part)
        for name, x in whole.features.items():
            assert torch.equal(part.features[name], x[indices])
        for mine, theirs in zip(part.head_outputs, whole.head_outputs, strict=True):
            assert all(torch.equal(x, y[indices]) for x, y in zip(mine, theirs, strict=True))
        assert part.images.image_sizes == [whole.images.image_sizes[i] for i in indices]
    assert whole.select([0, 1, 2]) is whole


def test_what_is_not_computed_is_computed_for_the_chosen_images() -> None:
    teacher = FrozenTeacher(tiny.build(tiny.rcnn_cfg()))
    inputs = _images((64, 64), (64, 64))
    whole = teacher.signals(inputs)
    assert whole.features
    part = whole.select([1])
    torch.testing.assert_close(
        part.proposals[0].objectness_logits, whole.proposals[1].objectness_logits
    )
    assert len(whole.select([1]).proposals) == 1

"""LD on all anchors at once, and its keys."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_dense

from distill.losses import distribution_distillation
from distill.methods import LD
from distill.views.dense_pairs import pair_levels


def test_ld_weighs_positives_by_the_students_score_and_the_valuable_region_by_a_quarter() -> None:
    signals = tiny_dense.shown("gfl")
    x = tiny_dense.whole(signals)
    student = signals[0]
    anchors = student.model.anchor_generator(
        [student.features[name] for name in student.model.head_in_features]
    )
    instances = [y["instances"] for y in student.batched_inputs]
    valuable = student.model.valuable_region(anchors, instances)
    parts = [y.select(valuable).flatten() for y in pair_levels(*signals)]
    valuable = torch.cat(parts) * x["valid"]
    assert valuable.any() and not valuable.all() and x["positive"].any()
    found = tiny_dense.method(LD, weight=0.5, valuable_weight=2.0)(*signals).losses
    best = x["student_logits"].detach().sigmoid().amax(1)
    deltas = x["student_deltas"], x["teacher_deltas"]
    positive = distribution_distillation(*deltas, best * x["positive"] * x["valid"])
    torch.testing.assert_close(found["loss_ld"], 0.5 * positive)
    region = distribution_distillation(*deltas, valuable / 4)
    torch.testing.assert_close(found["loss_ld_valuable"], 2 * region)
    only = tiny_dense.method(LD, valuable_weight=0.0)(*signals).losses
    assert set(only) == {"loss_ld"}


def test_bins_that_differ_are_refused() -> None:
    other = tiny_dense.gfl(1, MODEL__GFL__REG_MAX=8)
    with pytest.raises(ValueError, match="MODEL.GFL.REG_MAX is 16 for the student and 8 for the"):
        tiny_dense.pair(tiny_dense.gfl(), other, tiny_dense.method(LD))


def test_a_temperature_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="DISTILL.LD.TEMPERATURE is 0.0; it must be above 0"):
        tiny_dense.method(LD, temperature=0.0)

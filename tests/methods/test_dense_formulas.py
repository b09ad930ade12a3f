"""What ADL, BCKD and LD make of the levels: the formulas on all anchors at once."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny, tiny_dense
from torch import Tensor

from distill.losses import (
    adaptive_distillation,
    aligned_overlap,
    binary_consistency,
    distribution_distillation,
    iou_localization,
)
from distill.methods import ADL, BCKD, LD
from distill.views.dense_pairs import pair_levels
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

Signals = tuple[StudentSignals, TeacherSignals]


def shown(name: str = "retinanet") -> Signals:
    build = tiny_dense.DENSE[name]
    signals = tiny_dense.signals(build(), build(1), tiny_dense.unequal_batch())
    if name == "retinanet":
        # Some that are ignored.
        signals[0].anchor_labels[:, ::7] = -1
    return signals


def whole(signals: Signals) -> dict[str, Tensor]:
    """All anchors of all images in one table."""
    pairs = list(pair_levels(*signals))

    def table(of: object) -> Tensor:
        return torch.cat([of(x).flatten(0, 1) for x in pairs])

    return {
        "student_logits": table(lambda x: x.student.logits),
        "teacher_logits": table(lambda x: x.teacher.logits),
        "student_boxes": table(lambda x: x.student.boxes()),
        "teacher_boxes": table(lambda x: x.teacher.boxes()),
        "student_deltas": table(lambda x: x.student.deltas),
        "teacher_deltas": table(lambda x: x.teacher.deltas),
        "valid": table(lambda x: x.valid[..., None])[:, 0],
        "positive": table(lambda x: x.positive[..., None])[:, 0],
    }


def logits_of(x: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return x["student_logits"], x["teacher_logits"], x["valid"]


@pytest.mark.parametrize("form", ["code", "paper"])
def test_adl_is_the_formula_over_all_levels(form: str) -> None:
    signals = shown()
    x = whole(signals)
    constants = {"gamma": 1.5, "beta": 0.5, "theta": 1.2, "form": form}
    method = tiny_dense.method(ADL, weight=3.0, **constants)
    found = method(*signals).losses["loss_adl"]
    assert not x["valid"].all()
    torch.testing.assert_close(found, 3 * adaptive_distillation(*logits_of(x), **constants))


def test_adl_may_be_divided_by_the_positives_instead() -> None:
    signals = shown()
    by_teacher = tiny_dense.method(ADL)(*signals)
    by_positives = tiny_dense.method(ADL, normalizer="positives")(*signals)
    positives = whole(signals)["positive"].sum()
    assert positives > 1
    expected = by_teacher.losses["loss_adl"] * by_teacher.diagnostics["adl/normalizer"] / positives
    torch.testing.assert_close(by_positives.losses["loss_adl"], expected)


@pytest.mark.parametrize("name", ["retinanet", "fcos", "gfl"])
def test_bckd_is_the_formula_over_all_levels(name: str) -> None:
    signals = shown(name)
    x = whole(signals)
    # The padding is invalid, yet positives in it would count.
    labels = signals[0].anchor_labels
    positives = ((labels >= 0) & (labels < tiny.NUM_CLASSES)).sum()
    found = tiny_dense.method(BCKD, cls_weight=2.0, loc_weight=5.0)(*signals)
    classification = binary_consistency(*logits_of(x), positives)
    torch.testing.assert_close(found.losses["loss_bckd_cls"], 2 * classification)
    boxes = x["student_boxes"], x["teacher_boxes"]
    localization = iou_localization(*boxes, *logits_of(x), positives)
    torch.testing.assert_close(found.losses["loss_bckd_loc"], 5 * localization)
    # And written out.
    q, p = x["teacher_logits"].sigmoid(), x["student_logits"].sigmoid()
    apart = (q - p).abs()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        x["student_logits"], q, reduction="none"
    )
    by_hand = ((apart * entropy).sum(1) * x["valid"]).sum() / positives
    torch.testing.assert_close(classification, by_hand)
    overlap = 1 - aligned_overlap(*boxes, "giou")
    by_hand = (overlap * apart.amax(1) * x["valid"]).sum() / positives
    torch.testing.assert_close(localization, by_hand)


@pytest.mark.parametrize(("off", "left"), [("cls_weight", "loc"), ("loc_weight", "cls")])
def test_a_term_of_weight_0_is_off_and_the_other_as_before(off: str, left: str) -> None:
    signals = shown()
    both = tiny_dense.method(BCKD)(*signals).losses
    one = tiny_dense.method(BCKD, **{off: 0.0})(*signals).losses
    assert set(one) == {f"loss_bckd_{left}"}
    assert torch.equal(one[f"loss_bckd_{left}"], both[f"loss_bckd_{left}"])


def test_levels_without_a_positive_are_left_out_by_key() -> None:
    signals = shown()
    labels = signals[0].anchor_labels
    labels[labels >= 0] = tiny.NUM_CLASSES
    labels[0, 1] = 0  # the only positive, on the finest level
    pairs = list(pair_levels(*signals))
    expected = binary_consistency(
        pairs[0].student.logits.flatten(0, 1),
        pairs[0].teacher.logits.flatten(0, 1),
        pairs[0].valid.flatten(),
        1,
    )
    skipping = tiny_dense.method(BCKD, skip_empty_levels=True)(*signals).losses
    torch.testing.assert_close(skipping["loss_bckd_cls"], expected)
    assert tiny_dense.method(BCKD)(*signals).losses["loss_bckd_cls"] > expected
    labels[0, 1] = tiny.NUM_CLASSES
    for loss in tiny_dense.method(BCKD, skip_empty_levels=True)(*signals).losses.values():
        assert loss == 0


def test_ld_weighs_positives_by_the_students_score_and_the_valuable_region_by_a_quarter() -> None:
    signals = shown("gfl")
    x = whole(signals)
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


def test_the_padding_counts_where_the_key_says_so() -> None:
    signals = shown("fcos")
    for kind in (ADL, BCKD):
        masked = sum(tiny_dense.method(kind)(*signals).losses.values())
        unmasked = sum(tiny_dense.method(kind, mask_padding=False)(*signals).losses.values())
        assert unmasked > masked > 0

"""BCKD on all anchors at once, its terms, and its keys."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny, tiny_dense

from distill.losses import aligned_overlap, binary_consistency, iou_localization
from distill.methods import BCKD
from distill.views.dense_pairs import pair_levels


@pytest.mark.parametrize("name", ["retinanet", "fcos", "gfl"])
def test_bckd_is_the_formula_over_all_levels(name: str) -> None:
    signals = tiny_dense.shown(name)
    x = tiny_dense.whole(signals)
    # The padding is invalid, yet positives in it would count.
    labels = signals[0].anchor_labels
    positives = ((labels >= 0) & (labels < tiny.NUM_CLASSES)).sum()
    found = tiny_dense.method(BCKD, cls_weight=2.0, loc_weight=5.0)(*signals)
    classification = binary_consistency(*tiny_dense.logits_of(x), positives)
    torch.testing.assert_close(found.losses["loss_bckd_cls"], 2 * classification)
    boxes = x["student_boxes"], x["teacher_boxes"]
    localization = iou_localization(*boxes, *tiny_dense.logits_of(x), positives)
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
    signals = tiny_dense.shown()
    both = tiny_dense.method(BCKD)(*signals).losses
    one = tiny_dense.method(BCKD, **{off: 0.0})(*signals).losses
    assert set(one) == {f"loss_bckd_{left}"}
    assert torch.equal(one[f"loss_bckd_{left}"], both[f"loss_bckd_{left}"])


def test_levels_without_a_positive_are_left_out_by_key() -> None:
    signals = tiny_dense.shown()
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iou_type": "l1"}, 'DISTILL.BCKD.IOU_TYPE is "l1"; choose one of giou, iou'),
        ({"head": "rpn"}, 'DISTILL.BCKD.HEAD is "rpn"; choose one of dense, roi'),
        ({"weight_exponent": 0.0}, "DISTILL.BCKD.WEIGHT_EXPONENT is 0.0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_key(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        tiny_dense.method(BCKD, **arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)

"""Task-adaptive regularization on hand-made signals: gates, terms, options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from helpers import tiny
from torch import Tensor

from distill.methods import TADF, MethodOutput, tadf
from distill.methods.schedule import Schedule
from distill.views.levels import Level
from distill.views.roi import RoiOutputs
from distill.views.sharing import SharedProposals

UNIT = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
STRIDES = {"p2": 4, "p3": 8, "p4": 16}


def level(name: str) -> Level:
    return Level(name, name, STRIDES[name], 2, 2)


# ------------------------------------------------------------- proposals


def proposals_of(
    proposals: list[list[float]],
    truth: list[list[float]],
    classes: list[int],
    student_deltas: list[list[float]],
    teacher_deltas: list[list[float]],
    student_scores: list[list[float]] | None = None,
    teacher_scores: list[list[float]] | None = None,
) -> SharedProposals:
    """Two foreground classes and the background; class-agnostic boxes."""
    count = len(proposals)
    labels = torch.tensor(classes)

    def scores(rows: list[list[float]] | None) -> Tensor:
        return torch.tensor(rows) if rows else torch.zeros(count, 3)

    return SharedProposals(
        boxes=torch.tensor(proposals),
        image_index=torch.zeros(count, dtype=torch.int64),
        classes=labels,
        gt_boxes=torch.tensor(truth),
        foreground=(labels >= 0) & (labels < 2),
        student=RoiOutputs(scores(student_scores), torch.tensor(student_deltas), UNIT),
        teacher=RoiOutputs(scores(teacher_scores), torch.tensor(teacher_deltas), UNIT),
    )


def output_of(
    proposals: SharedProposals, monkeypatch: pytest.MonkeyPatch, **arguments: Any
) -> MethodOutput:
    """The method's output on given proposals instead of those that a pair of detectors shares."""
    monkeypatch.setattr(tadf, "share_proposals", lambda student, teacher, source: proposals)
    arguments = {"neck_weight": 0, "cls_weight": 1.0, "reg_weight": 1.0, **arguments}
    return TADF.with_defaults((level("p2"),), schedule=Schedule(), **arguments)(None, None)


STILL = [0.0, 0.0, 0.0, 0.0]
# Moves the box 0, 0, 10, 10 onto 0, 0, 10, 20: down by half its height, twice as high.
PERFECT = [0.0, 0.5, 0.0, math.log(2)]
AWAY = [3.0, 0.0, 0.0, 0.0]
# Onto 0, 0, 10, 15.
BETTER = [0.0, 0.25, 0.0, math.log(1.5)]
SQUARE, TALL = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 20.0]


@pytest.fixture
def boxes() -> SharedProposals:
    """Five proposals.

    0: the teacher is perfect, the student better than the proposal; 1: the teacher is worse;
    2: appended ground truth, which nothing can beat; 3: background; 4: the student is perfect,
    the teacher only better than the proposal.
    """
    return proposals_of(
        [SQUARE, SQUARE, TALL, SQUARE, SQUARE],
        [TALL, TALL, TALL, TALL, TALL],
        [0, 1, 0, 2, 1],
        student_deltas=[BETTER, STILL, STILL, STILL, PERFECT],
        teacher_deltas=[PERFECT, AWAY, STILL, PERFECT, BETTER],
    )


DISTANCE = 0.25 + math.log(2 / 1.5)


@pytest.mark.parametrize(
    ("gate", "mean", "loss"),
    [
        # 0 and 4 of the four foreground proposals.
        ("proposal", 2 / 4, 2 * DISTANCE / 4),
        # 0 alone: at 4 the student is better, and at 2 nobody is better than the other.
        ("student", 1 / 4, DISTANCE / 4),
        # Every foreground proposal, 2 with equal deltas.
        ("none", 1.0, (2 * DISTANCE + 3.0) / 4),
    ],
)
def test_the_box_gate_admits_what_it_says(
    boxes: SharedProposals, monkeypatch: pytest.MonkeyPatch, gate: str, mean: float, loss: float
) -> None:
    output = output_of(boxes, monkeypatch, reg_gate=gate)
    assert output.diagnostics["tadf/num_foreground"] == 4
    assert output.diagnostics["tadf/gate_box"].item() == pytest.approx(mean)
    assert output.losses["loss_tadf_box"].item() == pytest.approx(loss, rel=1e-5)


def test_appended_ground_truth_is_closed_to_any_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = [STILL, PERFECT, AWAY, BETTER]
    proposals = proposals_of([TALL] * 4, [TALL] * 4, [0] * 4, [STILL] * 4, deltas)
    output = output_of(proposals, monkeypatch)
    assert output.diagnostics["tadf/gate_box"] == 0 and output.losses["loss_tadf_box"] == 0


def test_boxes_that_overflow_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    wild = [[float("inf")] * 4, [1e38] * 4, [float("nan")] * 4]
    proposals = proposals_of([SQUARE] * 3, [TALL] * 3, [0] * 3, [STILL] * 3, wild)
    output = output_of(proposals, monkeypatch)
    assert output.diagnostics["tadf/gate_box"] == 0 and output.losses["loss_tadf_box"] == 0


@pytest.fixture
def scores() -> SharedProposals:
    """Five proposals of the classes 0, 0, 1, 1 and the background.

    The teacher is right at 0 and 2 (and at the background), and more certain of the label than
    the student at 0 and 1.
    """
    return proposals_of(
        [SQUARE] * 5,
        [SQUARE] * 5,
        [0, 0, 1, 1, 2],
        [STILL] * 5,
        [STILL] * 5,
        student_scores=[[0.0, 0, 0], [-5.0, 0, 0], [0.0, 5, 0], [0.0, 1, 0], [0.0, 0, 0]],
        teacher_scores=[[2.0, 0, 0], [-1.0, 0, 0], [0.0, 2, 0], [3.0, 0, 0], [0.0, 0, 9]],
    )


@pytest.mark.parametrize(
    ("gate", "rows"), [("fg", [0, 1, 2, 3]), ("correct", [0, 2]), ("better", [0, 1])]
)
@pytest.mark.parametrize("form", ["bce", "kl"])
def test_the_classification_gate_admits_what_it_says(
    scores: SharedProposals,
    monkeypatch: pytest.MonkeyPatch,
    gate: str,
    rows: list[int],
    form: str,
) -> None:
    output = output_of(scores, monkeypatch, cls_gate=gate, cls_loss=form)
    assert output.diagnostics["tadf/gate_cls"].item() == pytest.approx(len(rows) / 4)
    p, q = scores.student.scores[rows].softmax(1), scores.teacher.scores[rows].softmax(1)
    if form == "bce":
        terms = -q * p.log() - (1 - q) * (1 - p).log()
    else:
        terms = q * (q / p).log()
    # Over the four foreground proposals and three classes, whatever the gate admits.
    assert output.losses["loss_tadf_cls"].item() == pytest.approx(terms.sum().item() / 12, rel=1e-5)


def test_without_foreground_terms_and_gates_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    proposals = proposals_of([SQUARE] * 2, [TALL] * 2, [2, -1], [BETTER] * 2, [PERFECT] * 2)
    output = output_of(proposals, monkeypatch)
    assert {k: x.item() for k, x in output.losses.items()} == {
        "loss_tadf_cls": 0,
        "loss_tadf_box": 0,
    }
    assert {k: x.item() for k, x in output.diagnostics.items()} == {
        "tadf/num_foreground": 0,
        "tadf/gate_cls": 0,
        "tadf/gate_box": 0,
    }


def test_weights_multiply_the_terms(
    boxes: SharedProposals, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = output_of(boxes, monkeypatch).losses
    more = output_of(boxes, monkeypatch, cls_weight=20.0, reg_weight=3.0).losses
    torch.testing.assert_close(more["loss_tadf_cls"], 20 * once["loss_tadf_cls"])
    torch.testing.assert_close(more["loss_tadf_box"], 3 * once["loss_tadf_box"])


# ------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("off", "terms", "signals"),
    [
        ((), {"neck", "cls", "box"}, {"features", "roi"}),
        (("neck_weight",), {"cls", "box"}, {"features", "roi"}),
        (("cls_weight",), {"neck", "box"}, {"features", "roi"}),
        (("reg_weight",), {"neck", "cls"}, {"features", "roi"}),
        (("cls_weight", "reg_weight"), {"neck"}, {"features"}),
    ],
)
def test_a_weight_of_0_switches_a_term_and_what_it_needs_off(
    off: tuple[str, ...], terms: set[str], signals: set[str]
) -> None:
    model = tiny.default_pair(**dict.fromkeys(off, 0.0))
    losses = tiny.step(model, tiny.batch())
    assert {k for k in losses if "tadf" in k} == {f"loss_tadf_{term}" for term in terms}
    (method,) = model.methods
    assert method.requires == signals
    assert bool(list(method.parameters())) == ("neck" in terms)


def test_the_teachers_proposals_are_required_only_where_they_are_shared() -> None:
    for share in ("student", "teacher", "both"):
        method = TADF.with_defaults((level("p2"),), schedule=Schedule(), share=share)
        assert ("rpn_proposals" in method.teacher_requires) == (share != "student")
        assert "rpn_proposals" not in method.requires


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("share", "SHARE"),
        ("level_assignment", "LEVEL_ASSIGNMENT"),
        ("cls_loss", "CLS_LOSS"),
        ("cls_gate", "CLS_GATE"),
        ("reg_gate", "REG_GATE"),
        ("adapter", "ADAPTER"),
    ],
)
def test_an_unknown_choice_is_refused_with_its_key(argument: str, key: str) -> None:
    with pytest.raises(ValueError, match=f'DISTILL.TADF.{key} is "odd"; choose one of'):
        TADF.with_defaults((level("p2"),), schedule=Schedule(), **{argument: "odd"})

"""Nothing goes without gradient, whatever the batch, also in several processes and on bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage
from helpers import tiny

from distill.methods.schedule import Schedule

NECK_ONLY = {"cls_weight": 0, "reg_weight": 0}
NECK_ONLY_KEYS = {"DISTILL__TADF__CLS_WEIGHT": 0.0, "DISTILL__TADF__REG_WEIGHT": 0.0}


NO_FOREGROUND = {
    "MODEL__ROI_HEADS__IOU_THRESHOLDS": [0.99],
    "MODEL__ROI_HEADS__PROPOSAL_APPEND_GT": False,
    "MODEL__MASK_ON": True,
}


@pytest.mark.parametrize("share", ["student", "teacher", "both"])
@pytest.mark.parametrize("inputs", ["normal", "one_image_empty", "all_empty", "no_foreground"])
def test_every_parameter_gets_a_finite_gradient(share: str, inputs: str) -> None:
    changes = NO_FOREGROUND if inputs == "no_foreground" else {"MODEL__MASK_ON": True}
    student = tiny.build(tiny.rcnn_cfg(**changes))
    teacher = tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1)
    model = tiny.pair(student, teacher, share=share, log_period=1).train()
    data = {
        "normal": tiny.batch(),
        "one_image_empty": [tiny.batch()[0], tiny.example([], seed=4)],
        "all_empty": tiny.empty_batch(),
        "no_foreground": tiny.batch(),
    }[inputs]
    with EventStorage() as storage:
        losses = model(data)
        count = storage.latest()["tadf/num_foreground"][0]
    assert (count > 0) == (inputs in ("normal", "one_image_empty"))
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("cls_gate", ["fg", "correct", "better"])
@pytest.mark.parametrize("reg_gate", ["proposal", "student", "none"])
@pytest.mark.parametrize("assignment", ["area", "all"])
def test_every_gate_leaves_a_gradient_everywhere(
    cls_gate: str, reg_gate: str, assignment: str
) -> None:
    model = tiny.default_pair(cls_gate=cls_gate, reg_gate=reg_gate, level_assignment=assignment)
    sum(tiny.step(model, tiny.batch()).values()).backward()
    assert tiny.without_gradient(model) == []


def test_the_adapters_get_a_zero_gradient_when_the_schedule_has_ended() -> None:
    model = tiny.default_pair(schedule=Schedule("linear", max_iter=5))
    with EventStorage(start_iter=5):
        losses = model(tiny.batch())
    assert losses["loss_tadf_off"] == 0
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert not any(p.grad.any() for p in model.distill.parameters())


def test_two_processes_have_the_gradients_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(tiny.neck_gradients, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert tiny.equal(first, second)
    alone = tiny.gradients_of_neck(tiny.neck_pair(), tiny.same_boxes())
    assert alone.keys() == first.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
    assert alone["distill.TADF.adapters.p2.weight"].any()
    assert alone["student.backbone.fpn_lateral2.weight"].any()


@pytest.mark.parametrize("share", ["student", "both"])
def test_three_hundred_boxes_are_digested(share: str) -> None:
    torch.manual_seed(0)
    corner = torch.rand(300, 2) * 50
    crowd = torch.cat([corner, corner + 1 + torch.rand(300, 2) * 12], 1).tolist()
    model = tiny.default_pair(share=share, vis_period=1, log_period=1)
    losses = tiny.step(model, [tiny.example(crowd), tiny.example([], seed=1)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("share", ["student", "both"])
def test_boxes_without_area_leave_the_methods_terms_finite(share: str) -> None:
    inputs = [tiny.example([[20, 20, 20, 20], [5, 30, 25, 30], [8, 8, 40, 48]])]
    losses = tiny.step(tiny.default_pair(share=share, vis_period=1), inputs)
    # Detectron2 itself takes their logarithm, and so keeps them out of its data.
    assert losses["loss_rpn_loc"].isinf()
    terms = sum(x for k, x in losses.items() if k.startswith("loss_tadf"))
    assert terms.isfinite() and terms > 0
    model = tiny.default_pair(share=share)
    losses = tiny.step(model, inputs)
    sum(x for k, x in losses.items() if k.startswith("loss_tadf")).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_an_image_of_nan_stops_as_in_plain_detectron2() -> None:
    inputs = tiny.batch()
    inputs[0]["image"] = torch.full((3, 64, 64), float("nan"))
    with pytest.raises(FloatingPointError, match="NaN"):
        tiny.step(tiny.default_pair(), inputs)


def test_a_teacher_that_is_not_finite_shows_in_the_loss_of_its_term() -> None:
    model = tiny.default_pair()
    with torch.no_grad():
        model.teacher.model.roi_heads.box_predictor.cls_score.bias.fill_(float("nan"))
    losses = tiny.step(model, tiny.batch())
    assert [k for k, x in losses.items() if not x.isfinite()] == ["loss_tadf_cls"]


def test_terms_are_float32_under_autocast() -> None:
    model = tiny.default_pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = tiny.step(model, tiny.batch())
    terms = {k: x for k, x in losses.items() if k.startswith("loss_tadf")}
    assert len(terms) == 3
    assert all(x.dtype == torch.float32 and x.isfinite() for x in terms.values())
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []

"""Detectors ignore regions while a forward in training runs, and are what they were afterwards."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import tiny, tiny_dense
from helpers.ignored import (
    DENSE,
    REGION,
    TWO_STAGE,
    K,
    background_inside,
    half_ignored,
    ignoring,
    inside_region,
    rcnn,
    spy,
    with_regions,
)
from torch import nn

from distill.methods import ADL
from distill.modeling.ignored_regions import add_ignored_regions


def test_evaluation_sees_no_regions() -> None:
    model = ignoring(rcnn).eval()
    calls = spy(model.proposal_generator, "forward")
    found = model(with_regions([{"image": tiny.batch()[0]["image"]}], [REGION]))
    assert len(calls) == 1 and "instances" in found[0]


def instance_attributes(model: nn.Module) -> list[dict[str, Any]]:
    return [dict(vars(module)) for module in model.modules()]


def test_doing_it_twice_is_doing_it_once() -> None:
    model = ignoring(rcnn)
    add_ignored_regions(model)
    assert len(model._forward_pre_hooks) == len(model._forward_hooks) == 1


@pytest.mark.parametrize("name", ["atss", "configurable_fcos", "c4", "cascade"])
def test_after_a_forward_the_detector_is_what_it_was(name: str) -> None:
    model = ignoring({**DENSE, **TWO_STAGE}[name])
    names = [set(x) for x in instance_attributes(model)]
    replaced = {"label_anchors", "losses", "_subsample_labels", "_sample_proposals"}
    during = []
    hook = model.backbone.register_forward_hook(
        lambda *_: during.extend(set(x) & replaced for x in instance_attributes(model))
    )
    tiny.step(model, half_ignored())
    assert any(during)
    during.clear()
    tiny.step(model, tiny.batch())
    model.eval()(half_ignored())
    assert not any(during)
    hook.remove()
    model.train()
    broken = [{**x, "image": x["image"][:2]} for x in half_ignored()]
    with pytest.raises(RuntimeError):
        tiny.step(model, broken)
    # FCOS notes the normalizer of its losses.
    after = [set(x) - {"loss_normalizer"} for x in instance_attributes(model)]
    assert after == names


def test_what_an_interrupted_forward_left_is_taken_away_before_the_next() -> None:
    model = ignoring(tiny_dense.atss)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = model.backbone.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny.step(model, half_ignored())
    hook.remove()
    tiny.step(model, tiny.batch())
    assert "label_anchors" not in vars(model)


@pytest.mark.parametrize("name", ["retinanet", "configurable_fcos", "fpn", "cascade"])
def test_a_copy_acts_on_itself_alone(name: str) -> None:
    model = ignoring({**DENSE, **TWO_STAGE}[name])
    losses = tiny.step(model, half_ignored())
    twin = copy.deepcopy(model)
    owners = [model] if name in DENSE else [model.proposal_generator, model.roi_heads]
    for owner in owners:
        # A copy that still called the original's methods would fail with it.
        for method in ("label_anchors", "label_and_sample_anchors", "_sample_proposals"):
            if hasattr(owner, method):
                setattr(owner, method, None)
    again = tiny.step(twin, half_ignored())
    if name in TWO_STAGE:
        assert tiny.equal(losses, again)
    assert not tiny.equal(again, tiny.step(twin, tiny.batch()))


def test_a_failed_step_leaves_no_region_behind() -> None:
    model = ignoring(tiny_dense.retinanet)
    calls = spy(model, "label_anchors")
    broken = [{**x, "image": x["image"][:2]} for x in half_ignored()]
    with pytest.raises(RuntimeError):
        tiny.step(model, broken)
    anchors = model.anchor_generator([torch.zeros(1, 8, n, n) for n in (16, 8, 4)])
    labels, _ = model.label_anchors(anchors, [x["instances"] for x in tiny.batch()])
    assert len(calls) == 1 and (labels[0] == K).any()
    plain, _ = tiny_dense.retinanet().label_anchors(anchors, [x["instances"] for x in tiny.batch()])
    assert torch.equal(labels[0], plain[0])


def test_the_student_of_a_distiller_honors_them() -> None:
    model = tiny.default_pair()
    add_ignored_regions(model.student, around=model)
    rpn = spy(model.student.proposal_generator, "label_and_sample_anchors")
    roi = spy(model.student.roi_heads, "label_and_sample_proposals")
    losses = tiny.step(model, half_ignored())
    assert any("tadf" in key for key in losses)
    (anchors, _), (labels, _) = rpn[0]
    inside = inside_region(torch.cat([x.tensor for x in anchors]))
    assert not ((labels[0] == 0) & inside).any()
    assert background_inside(roi[0][1][0]) == 0


def test_the_methods_of_a_distiller_see_which_anchors_are_ignored() -> None:
    method = tiny_dense.method(ADL)
    model = tiny_dense.pair(tiny_dense.atss(), tiny_dense.atss(1), method)
    add_ignored_regions(model.student, around=model)
    views = spy(method, "forward")
    tiny.step(model, half_ignored())
    (((student, _), _),) = views
    inside = inside_region(torch.cat([x.reshape(-1, 4) for x in student.dense().anchors]))
    first, second = student.anchor_labels
    assert (first == -1).any() and torch.equal(first == -1, inside & (first < 0))
    assert not (inside & (first == K)).any() and not (second == -1).any()


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear labels neither.*IGNORE_THRESHOLD"):
        add_ignored_regions(nn.Linear(1, 1))

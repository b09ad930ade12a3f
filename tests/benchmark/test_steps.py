"""All variants do the same work on the same proposals, step after step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.benchmark import PAIRS, VARIANTS, Pair, break_down, build_step
from distill.benchmark.steps import Step


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The digits pair, small."""
    monkeypatch.chdir(Path(__file__).parents[2])
    return dataclasses.replace(PAIRS["digits"], image_size=64, batch_size=2)


def build(pair: Pair, variant: str) -> Step:
    return build_step(variant, pair.config("cpu"), pair.batch(10))


def proposals_of(step: Step) -> Tensor:
    """The boxes that the student's box head sees in one step."""
    seen: list[Tensor] = []
    pooler: nn.Module = getattr(step.model, "student", step.model).roi_heads.box_pooler
    hook = pooler.register_forward_hook(
        lambda module, args, output: seen.extend(x.tensor for x in args[1])
    )
    step()
    hook.remove()
    return torch.cat(seen).detach()


def test_every_training_step_sees_the_same_proposals(pair: Pair) -> None:
    expected = proposals_of(build(pair, "student"))
    assert len(expected) > 10
    for variant in ("student", "distilled", "distilled_conv1x1"):
        step = build(pair, variant)
        assert torch.equal(proposals_of(step), expected)
        assert torch.equal(proposals_of(step), expected)


def test_a_training_step_has_gradients_and_an_optimizer_but_learns_nothing(pair: Pair) -> None:
    step = build(pair, "distilled")
    before = {name: p.clone() for name, p in step.model.named_parameters()}
    step()
    for name, p in step.model.named_parameters():
        assert p.grad is not None and torch.equal(p, before[name])


@pytest.mark.parametrize("variant", [x for x in VARIANTS if x.startswith("teacher")])
def test_the_teachers_steps_leave_no_gradient_and_stop_where_they_should(
    pair: Pair, variant: str
) -> None:
    step = build(pair, variant)
    ran: list[str] = []
    step.model.backbone.register_forward_hook(lambda *_: ran.append("backbone"))
    step.model.roi_heads.register_forward_hook(lambda *_: ran.append("roi_heads"))
    step()
    assert ran == (["backbone", "roi_heads"] if variant == "teacher" else ["backbone"])
    assert all(p.grad is None for p in step.model.parameters())


def test_the_variant_with_small_adapters_has_them(pair: Pair) -> None:
    sizes = {
        variant: {
            m.kernel_size
            for m in build(pair, variant).model.distill.modules()
            if isinstance(m, nn.Conv2d)
        }
        for variant in ("distilled", "distilled_conv1x1")
    }
    assert sizes == {"distilled": {(3, 3)}, "distilled_conv1x1": {(1, 1)}}


def test_the_breakdown_names_its_parts_and_leaves_no_hook(pair: Pair) -> None:
    step = build(pair, "distilled")
    parts = break_down(step, rounds=1, device="cpu")
    assert set(parts) >= {"teacher backbone", "adapters backward", "losses forward"}
    assert all(seconds > 0 for seconds in parts.values())
    modules = [*step.model.modules(), *step.model.teacher.model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)


def test_random_boxes_lie_inside_the_images_and_repeat() -> None:
    first, again = (PAIRS["r50"].batch(80, seed=3) for _ in range(2))
    assert len(first) == 2
    for one, other in zip(first, again, strict=True):
        boxes = one["instances"].gt_boxes.tensor
        assert (boxes >= 0).all() and (boxes <= 256).all()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides >= 31.9).all() and (sides <= 128.1).all()
        assert torch.equal(boxes, other["instances"].gt_boxes.tensor)
        assert torch.equal(one["image"], other["image"])

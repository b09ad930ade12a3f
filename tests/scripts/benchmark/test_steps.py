"""All variants do the same work on the same proposals, step after step."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from benchmark import PAIRS, Pair, Step, break_down, build_step
from torch import Tensor, nn

from distill.methods.ida_det.selector import ProposalSelector


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])


def small(name: str) -> Pair:
    return dataclasses.replace(PAIRS[name], image_size=(64, 96), batch_size=2)


def build(name: str, variant: str) -> Step:
    return build_step(variant, small(name), "cpu")


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


def hooks_of(step: Step) -> int:
    """How many hooks the modules of student and teacher have."""
    modules = [*step.model.modules(), *step.model.teacher.model.modules()]
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in modules for kind in kinds)


@pytest.mark.parametrize("name", ["digits", "digits_idadet"])
def test_every_training_step_sees_the_same_proposals(name: str) -> None:
    expected = proposals_of(build(name, "student"))
    assert len(expected) > 10
    for variant in ("student", *PAIRS[name].distilled):
        step = build(name, variant)
        assert torch.equal(proposals_of(step), expected)
        assert torch.equal(proposals_of(step), expected)


@pytest.mark.parametrize(
    ("name", "variant"), [("digits", "distilled"), ("digits_idadet", "idadet")]
)
def test_a_training_step_has_gradients_and_an_optimizer_but_learns_nothing(
    name: str, variant: str
) -> None:
    step = build(name, variant)
    before = {name: p.clone() for name, p in step.model.named_parameters()}
    step()
    for name, p in step.model.named_parameters():
        assert p.grad is not None and torch.equal(p, before[name])


@pytest.mark.parametrize("variant", ["teacher", "teacher_backbone"])
def test_the_teachers_steps_leave_no_gradient_and_stop_where_they_should(variant: str) -> None:
    step = build("digits", variant)
    ran: list[str] = []
    step.model.backbone.register_forward_hook(lambda *_: ran.append("backbone"))
    step.model.roi_heads.register_forward_hook(lambda *_: ran.append("roi_heads"))
    step()
    assert ran == (["backbone", "roi_heads"] if variant == "teacher" else ["backbone"])
    assert all(p.grad is None for p in step.model.parameters())
    assert step.counts() == {}


def test_the_variant_with_small_adapters_has_them() -> None:
    sizes = {
        variant: {
            m.kernel_size
            for m in build("digits", variant).model.distill.modules()
            if isinstance(m, nn.Conv2d)
        }
        for variant in ("distilled", "distilled_conv1x1")
    }
    assert sizes == {"distilled": {(3, 3)}, "distilled_conv1x1": {(1, 1)}}


def test_the_undistilled_step_runs_the_teachers_head_once_and_compares_nothing() -> None:
    pair = dataclasses.replace(small("retinanet"), batch_size=1)
    ran, names = [], {}
    for variant in ("undistilled", "bckd"):
        step = build_step(variant, pair, "cpu")
        step.model.teacher.model.head.register_forward_hook(lambda *_: ran.append("head"))
        step()
        names[variant] = {name for name in step.storage.latest() if name.startswith("loss_")}
    assert ran == ["head", "head"]
    assert names["undistilled"] == {"loss_cls", "loss_box_reg"}
    assert names["bckd"] == names["undistilled"] | {"loss_bckd_cls", "loss_bckd_loc"}


def test_the_variants_of_region_distillation_differ_in_what_they_imitate() -> None:
    seen = {}
    for variant in PAIRS["digits_idadet"].distilled:
        (method,) = build("digits_idadet", variant).model.methods
        selector = method.selector
        seen[variant] = selector.selection, selector.pool_levels, method.support, method.loss
    assert seen == {
        "hint": ("everywhere", "every", "crops", "l2"),
        "idadet": ("discrepancy", "every", "crops", "entropy"),
        "idadet_assigned": ("discrepancy", "assigned", "crops", "entropy"),
        "idadet_mask": ("discrepancy", "every", "mask", "entropy"),
    }


def test_a_step_counts_the_regions_of_both_detectors() -> None:
    wanted = ("TOPK", "10", "OBJECTNESS_THRESHOLD", "0.0", "FRACTION", "0.3")
    overrides = tuple(x if i % 2 else f"DISTILL.IDaDet.{x}" for i, x in enumerate(wanted))
    pair = dataclasses.replace(small("digits_idadet"), overrides=overrides)
    step = build_step("idadet", pair, "cpu")
    assert step.counts() == {}
    step()
    assert step.counts() == {"idadet/num_proposals": 20.0, "idadet/num_selected": 6.0}
    hint = build("digits_idadet", "hint")
    hint()
    assert hint.counts() == {}


@pytest.mark.parametrize(
    ("name", "variant", "own"),
    [
        ("digits", "distilled", {"teacher ROI pooling", "teacher box head"}),
        ("digits_idadet", "idadet", {"teacher proposals", "selection of proposals"}),
    ],
)
def test_the_breakdown_names_its_parts_and_leaves_nothing_behind(
    name: str, variant: str, own: set[str]
) -> None:
    select = ProposalSelector.select
    step = build(name, variant)
    hooks = hooks_of(step)
    parts = break_down(step, rounds=1)
    assert set(parts) == own | {
        "student forward",
        "teacher backbone",
        "losses forward",
        "adapters forward",
        "adapters backward",
        "backward of student and losses, optimizer",
    }
    assert all(seconds > 0 for seconds in parts.values())
    assert hooks_of(step) == hooks
    assert ProposalSelector.select is select


def test_the_breakdown_counts_nothing_twice() -> None:
    ticks = itertools.count()
    parts = break_down(build("digits_idadet", "idadet"), 1, clock=lambda: next(ticks))
    # A part takes one tick from each reading of the clock to the next, in one of the two steps.
    assert sum(parts.values()) == next(ticks) / 4


@pytest.mark.parametrize("name", PAIRS)
def test_random_boxes_lie_inside_the_images_and_repeat(name: str) -> None:
    pair = dataclasses.replace(PAIRS[name], boxes_per_image=80)
    (height, width), (low, high) = pair.image_size, pair.box_size
    batch, again = (pair.batch(80, seed=3) for _ in range(2))
    assert len(batch) == pair.batch_size
    for one, other in zip(batch, again, strict=True):
        assert one["image"].shape == (3, height, width)
        assert one["instances"].image_size == (height, width)
        boxes = one["instances"].gt_boxes.tensor
        assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides >= low - 0.1).all() and (sides <= high + 0.1).all()
        # They use the room, in either direction.
        assert (boxes[:, 2:].amax(0) > 0.8 * torch.tensor([width, height])).all()
        assert torch.equal(boxes, other["instances"].gt_boxes.tensor)
        assert torch.equal(one["image"], other["image"])

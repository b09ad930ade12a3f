"""Anchors and proposals in ignored regions are neither object nor background."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from helpers import tiny
from helpers.ignored import (
    DENSE,
    REGION,
    TWO_STAGE,
    K,
    background_inside,
    cascade,
    half_ignored,
    ignoring,
    inside_region,
    spy,
    with_regions,
)
from torch import Tensor, nn

from distill.modeling.ignored_regions import centers_inside, ignored_regions
from distill.views.student import record_student


def dense_step(model: nn.Module, inputs: list[dict]) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (N, R), gradients (N, R, D) of the class logits, and anchors (R, 4)."""
    with ignored_regions(model, inputs), record_student(model, inputs) as seen:
        losses = tiny.step(model, inputs)
    maps = seen.head_outputs[0]
    gradients = torch.autograd.grad(sum(losses.values()), maps)
    channels = K + 1 if type(model).__name__ == "SSD" else K
    table = torch.cat([permute_to_N_HWA_K(x, channels) for x in gradients], dim=1)
    anchors = torch.cat([x.reshape(-1, 4) for x in seen.dense().anchors])
    return seen.anchor_labels, table, anchors


@pytest.mark.parametrize("name", DENSE)
def test_background_in_a_region_has_no_gradient_and_all_else_keeps_its_own(name: str) -> None:
    before, full, anchors = dense_step(DENSE[name]().train(), tiny.batch())
    after, gradient, _ = dense_step(DENSE[name]().train(), half_ignored())
    inside = torch.stack([inside_region(anchors), torch.zeros(len(anchors), dtype=torch.bool)])
    ignored = inside & (before == K)
    assert ignored.any() and (inside & (before >= 0) & (before < K)).any()
    assert torch.equal(after, before.masked_fill(ignored, -1))
    assert full[ignored].any() and not gradient[ignored].any()
    rest = ~ignored & (before < K) if name == "ssd" else ~ignored
    # SSD takes the next hardest negatives instead.
    torch.testing.assert_close(gradient[rest], full[rest], rtol=1e-5, atol=1e-9)
    if name == "ssd":
        taken, instead = (x.abs().sum(-1) > 0 for x in (full, gradient))
        assert torch.equal(taken.sum(1), instead.sum(1))


@pytest.mark.parametrize("name", [x for x in DENSE if x != "fcos"])
def test_an_image_of_nothing_but_a_region_costs_nothing(name: str) -> None:
    model = ignoring(DENSE[name])
    losses = tiny.step(model, with_regions(tiny.empty_batch(), [[0, 0, 64, 64]], [[0, 0, 64, 64]]))
    assert {key: loss.item() for key, loss in losses.items()} == dict.fromkeys(losses, 0.0)
    sum(losses.values()).backward()
    assert not tiny.without_gradient(model)
    assert not any(p.grad.any() for p in model.parameters())
    if name != "ssd":
        assert tiny.step(model, tiny.empty_batch())[next(iter(losses))].item() > 0


def sampled_anchors(model: nn.Module, inputs: list[dict]) -> tuple[list[Tensor], Tensor]:
    calls = spy(model.proposal_generator, "label_and_sample_anchors")
    tiny.step(model, inputs)
    (((anchors, _), (labels, _)),) = calls
    return labels, torch.cat([x.tensor for x in anchors])


@pytest.mark.parametrize("name", TWO_STAGE)
def test_the_rpn_samples_other_background_instead(name: str) -> None:
    labels, anchors = sampled_anchors(TWO_STAGE[name]().train(), half_ignored())
    inside = inside_region(anchors)
    assert ((labels[0] == 0) & inside).any()
    labels, _ = sampled_anchors(ignoring(TWO_STAGE[name]), half_ignored())
    assert not ((labels[0] == 0) & inside).any() and ((labels[0] == 1) & inside).any()
    assert ((labels[1] == 0) & inside).any()
    # MODEL.RPN.BATCH_SIZE_PER_IMAGE
    assert [int((x >= 0).sum()) for x in labels] == [16, 16]


@pytest.mark.parametrize("name", TWO_STAGE)
@pytest.mark.parametrize("empty", [False, True])
def test_roi_heads_sample_no_background_in_a_region(name: str, empty: bool) -> None:
    images = [tiny.empty_batch()[0], tiny.batch()[1]] if empty else tiny.batch()
    inputs = with_regions(images, [REGION], [])
    model = TWO_STAGE[name]().train()
    calls = spy(model.roi_heads, "label_and_sample_proposals")
    tiny.step(model, inputs)
    assert background_inside(calls[0][1][0]) > 0
    model = ignoring(TWO_STAGE[name])
    calls = spy(model.roi_heads, "label_and_sample_proposals")
    tiny.step(model, inputs)
    first, second = calls[0][1]
    assert background_inside(first) == 0 and background_inside(second) > 0
    assert (first.gt_classes == K).any()
    foreground = first.gt_classes < K
    assert not foreground.any() if empty else foreground.any()


def test_no_stage_of_a_cascade_has_background_in_a_region() -> None:
    counts = {}
    for prepare in (lambda make: make().train(), ignoring):
        model = prepare(cascade)
        calls = [spy(predictor, "losses") for predictor in model.roi_heads.box_predictor]
        losses = tiny.step(model, half_ignored())
        stages = [call[0][0][1] for call in calls]
        counts[prepare] = [[background_inside(x) for x in images] for images in stages]
        assert all(torch.isfinite(x) for x in losses.values())
    plain, own = counts.values()
    assert all(first > 0 for first, _ in plain)
    assert [first for first, _ in own] == [0, 0, 0]
    assert all(second > 0 for _, second in own)


EVERYTHING = [[-10.0, -10, 90, 90]]
INPUTS = {
    "regions alone": with_regions(tiny.empty_batch(), EVERYTHING, EVERYTHING),
    "one image of a region": with_regions(
        [tiny.empty_batch()[0], tiny.batch()[1]], EVERYTHING, EVERYTHING
    ),
    "regions without area": with_regions(tiny.batch(), [[5, 5, 5, 5]], [[0, 0, 64, 0]]),
}


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("name", ["configurable_fcos", "ssd", "gfl", *TWO_STAGE])
def test_losses_are_finite_and_reach_every_parameter(name: str, inputs: list[dict]) -> None:
    model = ignoring({**DENSE, **TWO_STAGE}[name])
    losses = tiny.step(model, inputs)
    assert all(torch.isfinite(x) for x in losses.values())
    sum(losses.values()).backward()
    assert not tiny.without_gradient(model)
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["retinanet", "fcos", "atss", *TWO_STAGE])
def test_without_regions_nothing_changes(name: str) -> None:
    make = {**DENSE, **TWO_STAGE}[name]
    plain, own = make().train(), ignoring(make)
    assert plain.state_dict().keys() == own.state_dict().keys()
    for inputs in (tiny.batch(), with_regions(tiny.batch(), [], [[5, 5, 5, 5]])):
        assert tiny.equal(tiny.step(plain, tiny.batch()), tiny.step(own, inputs))


def test_a_box_lies_in_a_region_if_its_center_does() -> None:
    regions = torch.tensor([[10.0, 10, 20, 30], [0, 0, 0, 0], [40, 40, 50, 40]])
    boxes = torch.tensor(
        [
            [5.0, 15, 16, 25],
            [5, 15, 14, 25],
            [0, 0, 30, 40],
            [15, 15, 25, 25],
            [-5, -5, 5, 5],
            [40, 35, 50, 45],
        ]
    )
    inside = [True, False, True, False, False, False]
    assert centers_inside(boxes, regions).tolist() == inside
    assert centers_inside(boxes, regions[:0]).tolist() == [False] * 6

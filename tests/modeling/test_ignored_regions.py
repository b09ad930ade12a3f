"""Anchors and proposals in ignored regions are neither object nor background."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from helpers import tiny, tiny_dense
from torch import Tensor, nn

from distill.modeling.batch_context import extend
from distill.modeling.ignored_regions import add_ignore_regions
from distill.views.student import record_student

K = tiny.NUM_CLASSES
# The upper half, with objects in it.
REGION = [0.0, 0.0, 64.0, 36.0]


def fcos(seed: int = 0) -> nn.Module:
    return tiny_dense.lively(
        tiny.build(
            tiny.rcnn_cfg(
                MODEL__META_ARCHITECTURE="ConfigurableFCOS",
                MODEL__FCOS__IN_FEATURES=("p2", "p3", "p4"),
                MODEL__FCOS__NUM_CLASSES=K,
                MODEL__FCOS__NORM="BN",
            ),
            seed,
        )
    )


def rcnn(seed: int = 0) -> nn.Module:
    return tiny.build(tiny.rcnn_cfg(), seed)


def c4(seed: int = 0) -> nn.Module:
    return tiny.build(tiny.c4_cfg(), seed)


def cascade(seed: int = 0) -> nn.Module:
    return tiny.build(
        tiny.rcnn_cfg(
            MODEL__ROI_HEADS__NAME="CascadeROIHeads",
            MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True,
            MODEL__ROI_BOX_CASCADE_HEAD__IOUS=(0.2, 0.3, 0.4),
        ),
        seed,
    )


DENSE: dict[str, Callable[..., nn.Module]] = {
    **{name: make for name, make in tiny_dense.DENSE.items() if name != "one_anchor"},
    "configurable_fcos": fcos,
}
TWO_STAGE = {"fpn": rcnn, "c4": c4, "cascade": cascade}


def with_regions(inputs: list[dict], *regions: list[list[float]]) -> list[dict]:
    return [
        {**x, "ignore_boxes": torch.tensor(boxes).reshape(-1, 4)}
        for x, boxes in zip(inputs, regions, strict=True)
    ]


def half_ignored() -> list[dict]:
    """An image with a region and one without."""
    return with_regions(tiny.batch(), [REGION], [])


def ignoring(make: Callable[..., nn.Module]) -> nn.Module:
    model = make().train()
    add_ignore_regions(model)
    return model


def spy(owner: nn.Module, name: str) -> list[tuple[tuple, Any]]:
    """Arguments and results of a method's calls from now on."""
    calls = []

    def watched(method: Callable, *args: Any) -> Any:
        calls.append((args, method(*args)))
        return calls[-1][1]

    extend(owner, name, watched)
    return calls


def inside_region(boxes: Tensor) -> Tensor:
    """By hand: whether the centers are above y = 36 in an image of 64 pixels."""
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    return (y < 36) & (y >= 0) & (x >= 0) & (x < 64)


def dense_step(model: nn.Module, inputs: list[dict]) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (N, R), gradients (N, R, D) of the class logits, and anchors (R, 4)."""
    with record_student(model, inputs) as seen:
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
    after, gradient, _ = dense_step(ignoring(DENSE[name]), half_ignored())
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


def background_inside(instances: Any) -> int:
    inside = inside_region(instances.proposal_boxes.tensor)
    return int((inside & (instances.gt_classes == K)).sum())


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


def test_evaluation_sees_no_regions() -> None:
    model = ignoring(rcnn).eval()
    calls = spy(model.proposal_generator, "forward")
    found = model(with_regions([{"image": tiny.batch()[0]["image"]}], [REGION]))
    assert len(calls) == 1 and "instances" in found[0]


def test_doing_it_twice_is_doing_it_once() -> None:
    model = ignoring(rcnn)
    methods = dict(vars(model.proposal_generator)), dict(vars(model.roi_heads))
    add_ignore_regions(model)
    assert len(model._forward_pre_hooks) == len(model._forward_hooks) == 1
    assert methods == (vars(model.proposal_generator), vars(model.roi_heads))


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


def test_the_student_of_a_distiller_honours_them() -> None:
    model = tiny.default_pair()
    add_ignore_regions(model.student)
    rpn = spy(model.student.proposal_generator, "label_and_sample_anchors")
    roi = spy(model.student.roi_heads, "label_and_sample_proposals")
    losses = tiny.step(model, half_ignored())
    assert any("tadf" in key for key in losses)
    (anchors, _), (labels, _) = rpn[0]
    inside = inside_region(torch.cat([x.tensor for x in anchors]))
    assert not ((labels[0] == 0) & inside).any()
    assert background_inside(roi[0][1][0]) == 0


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear labels neither.*IGNORE_THRESHOLD"):
        add_ignore_regions(nn.Linear(1, 1))

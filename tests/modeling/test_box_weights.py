"""Objects count as much as their boxes' weights say, in the gradients of all detectors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.structures import pairwise_iou
from helpers import tiny, tiny_dense
from test_ignore_regions import DENSE, TWO_STAGE, half_ignored, spy
from torch import Tensor, nn

from distill.methods import BCKD
from distill.modeling.box_weights import add_box_weights, matched_weights, scale_gradient
from distill.modeling.ignored_regions import add_ignore_regions
from distill.views.student import record_student

K = tiny.NUM_CLASSES
# Powers of 2, so that a product is exact. The batch has one object, then two.
WEIGHTS = [[0.25], [0.5, 0.125]]


def weighted(inputs: list[dict], weights: list[list[float] | None]) -> list[dict]:
    return [
        x if row is None else {**x, "box_weights": torch.tensor(row)}
        for x, row in zip(inputs, weights, strict=True)
    ]


def weighing(make: Callable[..., nn.Module]) -> nn.Module:
    model = make().train()
    add_box_weights(model)
    return model


def parameter_gradients(model: nn.Module, inputs: list[dict]) -> dict[str, Tensor]:
    sum(tiny.step(model, inputs).values()).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_the_weight_of_a_match_is_that_of_the_equal_box() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 0, 4, 4], [0, 0, 4, 4], [0, 0, 0, 0]])
    weights = torch.tensor([0.25, 0.5, 0.75, 0])
    matched = torch.tensor([[1.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 9, 9], [0, 0, 0, 0]])
    assert matched_weights(matched, boxes, weights).tolist() == [0.5, 0.75, 0, 0]
    assert matched_weights(matched[:0], boxes, weights).shape == (0,)


def test_the_gradient_is_scaled_and_the_value_is_not() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = scale_gradient(x, torch.tensor([0.5, 3.0]))
    assert y.tolist() == [1, 2]
    (y**2).sum().backward()
    assert x.grad.tolist() == [1, 12]
    with torch.no_grad():
        assert scale_gradient(x, torch.tensor(2.0)).tolist() == [1, 2]


def head_gradients(model: nn.Module, inputs: list[dict]) -> tuple[dict, list[list[Tensor]], Any]:
    """Losses, the gradient of every map of a dense head, and what was seen."""
    with record_student(model, inputs) as seen:
        losses = tiny.step(model, inputs)
    maps = [list(x) for x in seen.head_outputs]
    flat = torch.autograd.grad(sum(losses.values()), [x for kind in maps for x in kind])
    count = len(maps[0])
    return losses, [list(flat[i : i + count]) for i in range(0, len(flat), count)], seen


def by_anchor(maps: list[Tensor], anchors: int) -> Tensor:
    """(N, R, D) of maps with equally many anchors a cell: an own way to rearrange them."""
    cells = sum(x.shape[-2] * x.shape[-1] for x in maps)
    assert anchors % cells == 0
    each = anchors // cells
    tables = []
    for x in maps:
        number, channels, height, width = x.shape
        table = x.reshape(number, each, channels // each, height, width)
        tables.append(torch.einsum("nadhw->nhwad", table).reshape(number, -1, channels // each))
    return torch.cat(tables, dim=1)


@pytest.mark.parametrize("name", [x for x in DENSE if x != "ssd"])
def test_a_dense_positive_counts_as_its_box_does(name: str) -> None:
    plain, full, _ = head_gradients(DENSE[name]().train(), tiny.batch())
    model = weighing(DENSE[name])
    boxes = spy(model, "label_anchors")
    own, scaled, seen = head_gradients(model, weighted(tiny.batch(), WEIGHTS))
    assert tiny.equal(plain, own)
    labels = seen.anchor_labels
    positive = (labels >= 0) & (labels < K)
    # The boxes of an image have different left sides.
    left = torch.stack([getattr(x, "tensor", x)[:, 0] for x in boxes[0][1][1]])
    factor = torch.ones_like(left)
    factor[0] = 0.25
    factor[1] = torch.where(left[1] == 4, 0.5, 0.125)
    factor[~positive] = 1
    assert set(factor.unique().tolist()) == {0.125, 0.25, 0.5, 1}
    for before, after in zip(full, scaled, strict=True):
        first, second = (by_anchor(x, labels.shape[1]) for x in (before, after))
        assert first[positive].any()
        assert torch.equal(second, first * factor[..., None])


def test_ssd_with_several_kinds_of_cells_weighs_the_right_anchors() -> None:
    model = weighing(tiny_dense.ssd)
    _, full, seen = head_gradients(tiny_dense.ssd().train(), tiny.batch())
    _, scaled, _ = head_gradients(model, weighted(tiny.batch(), [[0.25], [0.25, 0.25]]))
    labels = [
        x.reshape(2, -1)
        for x in seen.anchor_labels.split([len(x.anchors) for x in seen.dense()], dim=1)
    ]
    for before, after in zip(full, scaled, strict=True):
        for x, y, label in zip(before, after, labels, strict=True):
            each = label.shape[1] // (x.shape[-2] * x.shape[-1])
            first, second = (by_anchor([z], each * x.shape[-2] * x.shape[-1]) for z in (x, y))
            factor = torch.where(label < K, 0.25, 1.0)
            assert torch.equal(second, first * factor[..., None])


def image_weights(boxes: Any, truth: Any, weights: list[float]) -> Tensor:
    """The weight of the true box that each box is a copy of, by IoU."""
    overlap, index = pairwise_iou(boxes, truth).max(dim=1)
    assert torch.allclose(overlap, torch.ones(()))
    return torch.tensor(weights)[index]


def test_an_rpn_positive_counts_as_its_box_does() -> None:
    gradients = []
    for model, inputs in (
        (TWO_STAGE["fpn"]().train(), tiny.batch()),
        (weighing(TWO_STAGE["fpn"]), weighted(tiny.batch(), WEIGHTS)),
    ):
        calls = spy(model.proposal_generator, "label_and_sample_anchors")
        with record_student(model, inputs) as seen:
            losses = tiny.step(model, inputs)
        rpn = losses["loss_rpn_cls"] + losses["loss_rpn_loc"]
        flat = torch.autograd.grad(rpn, [x for maps in seen.rpn_outputs for x in maps])
        gradients.append([by_anchor(list(x), len(calls[0][1][0][0])) for x in (flat[:3], flat[3:])])
        labels, matched = calls[0][1]
    factor = torch.ones(2, len(labels[0]))
    for row, label, box, x, own in zip(factor, labels, matched, inputs, WEIGHTS, strict=True):
        positive = label == 1
        boxes = type(x["instances"].gt_boxes)(box[positive])
        row[positive] = image_weights(boxes, x["instances"].gt_boxes, own)
    assert set(factor.unique().tolist()) == {0.125, 0.25, 0.5, 1}
    for full, scaled in zip(*gradients, strict=True):
        assert torch.equal(scaled, full * factor[..., None])


@pytest.mark.parametrize("name", TWO_STAGE)
def test_a_roi_positive_counts_as_its_box_does_in_every_stage(name: str) -> None:
    def outputs(model: nn.Module, inputs: list[dict]) -> list[tuple[Any, list[Tensor]]]:
        predictor = model.roi_heads.box_predictor
        stages = list(predictor) if isinstance(predictor, nn.ModuleList) else [predictor]
        raw: list[tuple[Tensor, Tensor]] = []
        for stage in stages:
            stage.register_forward_hook(lambda module, args, output: raw.append(output))
        calls = [spy(stage, "losses") for stage in stages]
        tiny.step(model, inputs)
        return [
            (call[0][0][1], torch.autograd.grad(sum(call[0][1].values()), list(x)))
            for call, x in zip(calls, raw, strict=True)
        ]

    plain = outputs(TWO_STAGE[name]().train(), tiny.batch())
    own = outputs(weighing(TWO_STAGE[name]), weighted(tiny.batch(), WEIGHTS))
    for (_, full), (proposals, scaled) in zip(plain, own, strict=True):
        factors = []
        for image, x, weights in zip(proposals, tiny.batch(), WEIGHTS, strict=True):
            row = image_weights(image.gt_boxes, x["instances"].gt_boxes, weights)
            factors.append(torch.where(image.gt_classes < K, row, 1.0))
        factor = torch.cat(factors)[:, None]
        assert (factor < 1).any() and (factor == 1).any()
        for first, second in zip(full, scaled, strict=True):
            assert torch.equal(second, first * factor)


@pytest.mark.parametrize("name", ["retinanet", "cascade"])
def test_with_weights_of_one_nothing_changes(name: str) -> None:
    make = {**DENSE, **TWO_STAGE}[name]
    plain = parameter_gradients(make().train(), tiny.batch())
    own = parameter_gradients(weighing(make), weighted(tiny.batch(), [[1.0], [1.0, 1.0]]))
    assert tiny.equal(plain, own)
    assert make().state_dict().keys() == weighing(make).state_dict().keys()


def test_images_without_weights_count_fully() -> None:
    _, full, _ = head_gradients(tiny_dense.retinanet().train(), tiny.batch())
    model = weighing(tiny_dense.retinanet)
    _, part, _ = head_gradients(model, weighted(tiny.batch(), [[0.5], None]))
    for before, after in zip(full, part, strict=True):
        for x, y in zip(before, after, strict=True):
            assert torch.equal(x[1], y[1])
    logits = zip(full[0], part[0], strict=True)
    assert any(not torch.equal(x[0], y[0]) for x, y in logits)


@pytest.mark.parametrize("name", ["configurable_fcos", "ssd", "fpn", "cascade"])
def test_boxes_of_no_weight_beside_images_of_no_boxes_are_fine(name: str) -> None:
    inputs = weighted([tiny.batch()[0], tiny.empty_batch()[0]], [[0.0], []])
    gradients = parameter_gradients(weighing({**DENSE, **TWO_STAGE}[name]), inputs)
    assert all(x is not None and x.isfinite().all() for x in gradients.values())


@pytest.mark.parametrize("name", ["fcos", "gfl", "fpn"])
def test_it_goes_together_with_ignored_regions_in_either_order(name: str) -> None:
    make = {**DENSE, **TWO_STAGE}[name]
    models = [make().train() for _ in range(3)]
    for model, additions in zip(
        models,
        (
            (add_ignore_regions, add_box_weights),
            (add_box_weights, add_ignore_regions),
            (add_ignore_regions,),
        ),
        strict=True,
    ):
        for add in additions:
            add(model)
    inputs = weighted(half_ignored(), WEIGHTS)
    losses = [tiny.step(model, inputs) for model in models]
    # The values are those of the ignored regions alone.
    assert tiny.equal(losses[0], losses[1]) and tiny.equal(losses[0], losses[2])
    for x in losses:
        sum(x.values()).backward()
    first, second, regions = ({n: p.grad for n, p in x.named_parameters()} for x in models)
    assert tiny.equal(first, second) and not tiny.equal(first, regions)


def test_distillation_on_the_same_outputs_is_not_weighted() -> None:
    def gradients(weights: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
        model = tiny_dense.pair(
            tiny_dense.retinanet(), tiny_dense.retinanet(1), tiny_dense.method(BCKD)
        )
        add_box_weights(model.student)
        maps = []
        model.student.head.register_forward_hook(
            lambda module, args, output: maps.extend(output[0])
        )
        losses = tiny.step(model, weighted(tiny.batch(), weights))
        online = sum(x for key, x in losses.items() if "bckd" in key)
        own = losses["loss_cls"]
        return tuple(torch.autograd.grad(x, maps, retain_graph=True) for x in (online, own))

    distilled, detection = gradients([None, None])
    again, weighed = gradients(WEIGHTS)
    assert all(map(torch.equal, distilled, again))
    assert not all(map(torch.equal, detection, weighed))


def test_a_copy_acts_on_itself_alone_and_twice_is_once() -> None:
    model = weighing(TWO_STAGE["fpn"])
    inputs = weighted(tiny.batch(), WEIGHTS)
    twin = copy.deepcopy(model)
    add_box_weights(twin)
    assert len(twin._forward_pre_hooks) == 1
    expected = parameter_gradients(model, inputs)
    # A copy that still called the original's methods would fail with it.
    model.proposal_generator.losses = model.roi_heads.box_predictor.losses = None
    assert tiny.equal(parameter_gradients(twin, inputs), expected)


def test_a_wrong_number_of_weights_and_an_unknown_detector_are_refused() -> None:
    model = weighing(TWO_STAGE["fpn"])
    with pytest.raises(ValueError, match="1.png has 1 box_weights for 2 boxes"):
        tiny.step(model, weighted(tiny.batch(), [[0.5], [0.5]]))
    with pytest.raises(ValueError, match="Linear has no losses.*SCORE_WEIGHTS"):
        add_box_weights(nn.Linear(1, 1))

"""Proposals of any detector: padded, decoded, and clipped to each image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from detectron2.structures import Boxes, Instances
from helpers import tiny, tiny_dense
from torch import Tensor, nn

from distill.views.proposals import Proposals, anchor_levels, dense_proposals

# Unequal, and neither square nor multiples of the padding.
SIZES = [(50, 90), (64, 40)]


def instances(boxes: Sequence[Sequence[float]], logits: Sequence[float]) -> Instances:
    found = Instances((64, 64))
    found.proposal_boxes = Boxes(torch.tensor(boxes).view(-1, 4).float())
    found.objectness_logits = torch.tensor(logits).float()
    return found


# ------------------------------------------------------------- two stages


def test_proposals_of_an_rpn_are_padded_to_the_fullest_image() -> None:
    proposals = Proposals.from_instances(
        [
            instances([[1, 2, 3, 4]], [0.0]),
            instances([[5, 6, 7, 8], [0, 0, 9, 9]], [2.0, -1.0]),
            instances([], []),
        ]
    )
    assert proposals.valid.tolist() == [[True, False], [True, True], [False, False]]
    assert proposals.boxes.tolist() == [
        [[1, 2, 3, 4], [0, 0, 0, 0]],
        [[5, 6, 7, 8], [0, 0, 9, 9]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    sigmoid = [[0.5, 0.0], [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))], [0.0, 0.0]]
    torch.testing.assert_close(proposals.objectness, torch.tensor(sigmoid))


def test_a_batch_without_proposals_is_empty() -> None:
    proposals = Proposals.from_instances([instances([], []), instances([], [])])
    assert proposals.boxes.shape == (2, 0, 4)
    assert proposals.objectness.shape == proposals.valid.shape == (2, 0)


def test_proposals_are_float32_and_constants() -> None:
    found = instances([[1, 2, 3, 4]], [0.0])
    found.proposal_boxes.tensor = found.proposal_boxes.tensor.bfloat16().requires_grad_()
    found.objectness_logits = found.objectness_logits.bfloat16().requires_grad_()
    proposals = Proposals.from_instances([found])
    assert proposals.boxes.dtype == proposals.objectness.dtype == torch.float32
    assert not proposals.boxes.requires_grad and not proposals.objectness.requires_grad


# ------------------------------------------------------------- dense heads


def head_outputs(model: nn.Module) -> tuple[dict[str, Tensor], list[list[Tensor]]]:
    """A head's outputs on a batch, blown up so that boxes move and scores differ."""
    inputs = [tiny.example([], size, seed=i) for i, size in enumerate(SIZES)]
    model.eval()
    with torch.no_grad():
        features = model.backbone(model.preprocess_image(inputs).tensor)
        outputs = model.head([features[name] for name in model.head_in_features])
        return features, [[torch.randn_like(x) for x in levels] for levels in outputs]


def fcos_box(center: tuple[float, float], stride: int, delta: list[float]) -> list[float]:
    """Distances to the four sides, in strides."""
    left, top, right, bottom = (stride * max(0.0, v) for v in delta)
    return [center[0] - left, center[1] - top, center[0] + right, center[1] + bottom]


def rcnn_box(anchor: list[float], shift: tuple[float, float], delta: list[float]) -> list[float]:
    """A shift of the center in sizes of the anchor, and logarithms of the growth."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = shift[0] + (anchor[0] + anchor[2]) / 2 + delta[0] * width
    y = shift[1] + (anchor[1] + anchor[3]) / 2 + delta[1] * height
    width, height = width * math.exp(delta[2]), height * math.exp(delta[3])
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def slowly(model: nn.Module, outputs: list[list[Tensor]], image: int) -> list[tuple]:
    """(objectness, box) of every anchor of one image, one after the other, the best first."""
    found, (height, width) = [], SIZES[image]
    for level, (logits, deltas) in enumerate(zip(*outputs[:2], strict=True)):
        stride, offset = model.anchor_generator.strides[level], model.anchor_generator.offset
        anchors = list(model.anchor_generator.cell_anchors)[level].tolist()
        cells = itertools.product(range(logits.shape[2]), range(logits.shape[3]))
        for (y, x), (a, anchor) in itertools.product(cells, enumerate(anchors)):
            classes = logits[image, a * tiny.NUM_CLASSES : (a + 1) * tiny.NUM_CLASSES, y, x]
            score = classes.max().sigmoid().item()
            delta = deltas[image, 4 * a : 4 * a + 4, y, x].tolist()
            place = ((x + offset) * stride, (y + offset) * stride)
            if len(outputs) == 3:
                score = math.sqrt(score * outputs[2][level][image, a, y, x].sigmoid().item())
                box = fcos_box(place, stride, delta)
            else:
                box = rcnn_box(anchor, place, delta)
            limits = (width, height, width, height)
            clipped = [min(max(v, 0.0), limit) for v, limit in zip(box, limits, strict=True)]
            found.append((score, clipped))
    return sorted(found, key=lambda pair: -pair[0])


DENSE = {
    "retinanet": lambda: tiny.build(tiny.retinanet_cfg()),
    "fcos": lambda: tiny.build_fcos(),
}
EVERY = pytest.mark.parametrize("name", DENSE)


@EVERY
@pytest.mark.parametrize("topk", [7, 10**6])
def test_the_best_boxes_are_those_found_one_anchor_at_a_time(name: str, topk: int) -> None:
    model = DENSE[name]()
    features, outputs = head_outputs(model)
    proposals = dense_proposals(model, features, outputs, SIZES, topk)
    total = sum(len(x) for x in anchor_levels(model, features).values())
    assert proposals.boxes.shape == (2, min(topk, total), 4)
    assert proposals.valid.all() and proposals.valid.shape == proposals.objectness.shape
    for image in range(2):
        expected = slowly(model, outputs, image)[:topk]
        scores = torch.tensor([score for score, _ in expected])
        torch.testing.assert_close(proposals.objectness[image], scores)
        if topk < total:  # Ties are rare among the first few.
            boxes = torch.tensor([box for _, box in expected])
            torch.testing.assert_close(proposals.boxes[image], boxes, rtol=1e-4, atol=1e-3)


@EVERY
def test_boxes_stay_within_their_own_image_and_not_the_padded_batch(name: str) -> None:
    model = DENSE[name]()
    features, outputs = head_outputs(model)
    # Every box is far larger than its image, around its own place.
    far = torch.tensor([0.0, 0, 4, 4] if name == "retinanet" else [99.0] * 4)
    outputs[1] = [far.repeat(x.shape[1] // 4)[:, None, None].expand_as(x) for x in outputs[1]]
    proposals = dense_proposals(model, features, outputs, SIZES, 5)
    for boxes, (height, width) in zip(proposals.boxes, SIZES, strict=True):
        assert boxes[..., 0::2].amax() == width and boxes[..., 1::2].amax() == height
        assert boxes.amin() >= 0


@EVERY
def test_objectness_does_not_ask_which_class(name: str) -> None:
    model = DENSE[name]()
    features, outputs = head_outputs(model)
    expected = dense_proposals(model, features, outputs, SIZES, 9)
    outputs[0] = [
        x.unflatten(1, (-1, tiny.NUM_CLASSES)).roll(1, 2).flatten(1, 2) for x in outputs[0]
    ]
    found = dense_proposals(model, features, outputs, SIZES, 9)
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.objectness, expected.objectness)


def test_a_detector_of_ones_own_says_what_objectness_is() -> None:
    model = tiny_dense.atss()
    features, outputs = head_outputs(model)
    # How central an anchor is in its object, whatever the object is.
    model.objectness = lambda outputs: [x[..., 0].sigmoid() for x in outputs[2]]
    found = dense_proposals(model, features, outputs, SIZES, 1)
    best = max(x[0].sigmoid().max().item() for x in outputs[2])
    assert found.objectness[0, 0].item() == pytest.approx(best, rel=1e-5)


@EVERY
def test_dense_proposals_are_float32_constants_whatever_the_heads_type(name: str) -> None:
    model = DENSE[name]()
    features, outputs = head_outputs(model)
    outputs = [[x.bfloat16().requires_grad_() for x in levels] for levels in outputs]
    found = dense_proposals(model, features, outputs, SIZES, 4)
    assert found.boxes.dtype == found.objectness.dtype == torch.float32
    assert not found.boxes.requires_grad and not found.objectness.requires_grad


# ------------------------------------------------------------- anchors


def test_anchors_are_named_by_the_levels_that_have_some() -> None:
    rpn = tiny.build(tiny.rcnn_cfg(MODEL__RPN__IN_FEATURES=["p2", "p4"], **_TWO_ANCHORS))
    c4, retinanet = tiny.build(tiny.c4_cfg()), DENSE["retinanet"]()
    for model, expected in (
        (rpn, {"p2": 16 * 32 * 3, "p4": 4 * 8 * 3}),
        (c4, {"res4": 4 * 8 * 6}),
        (retinanet, {"p2": 16 * 32 * 3, "p3": 8 * 16 * 3, "p4": 4 * 8 * 3}),
        (DENSE["fcos"](), {"p2": 16 * 32, "p3": 8 * 16, "p4": 4 * 8}),
    ):
        features = model.backbone(torch.zeros(1, 3, 64, 128))
        found = {name: len(x) for name, x in anchor_levels(model, features).items()}
        assert found == expected


_TWO_ANCHORS = {"MODEL__ANCHOR_GENERATOR__SIZES": [[16], [40]]}

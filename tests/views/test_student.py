"""The recorder sees what the student computes, and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from helpers import tiny
from torch import nn

from distill.views.ground_truth import GroundTruth
from distill.views.proposals import Proposals, dense_proposals
from distill.views.roi import RoiOutputs, run_roi_head
from distill.views.student import StudentSignals, image_sizes, record_student


def recorded(
    model: nn.Module, inputs: list[dict[str, Any]], seed: int = 0
) -> tuple[StudentSignals, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    with EventStorage(), record_student(model.train(), inputs) as seen:
        losses = model(inputs)
    return seen, losses


def number_of_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


DETECTORS = {
    "faster_rcnn": lambda: tiny.build(tiny.rcnn_cfg()),
    "mask_rcnn": lambda: tiny.build(tiny.rcnn_cfg(MODEL__MASK_ON=True)),
    "c4": lambda: tiny.build(tiny.c4_cfg()),
    "c4_mask": lambda: tiny.build(tiny.c4_cfg(MODEL__MASK_ON=True)),
    "retinanet": lambda: tiny.build(tiny.retinanet_cfg()),
    "fcos": lambda: tiny.build_fcos(),
}
TWO_STAGE = ("faster_rcnn", "mask_rcnn", "c4", "c4_mask")


@pytest.mark.parametrize("name", DETECTORS)
def test_the_losses_are_bit_for_bit_those_without_a_recorder(name: str) -> None:
    expected = tiny.step(DETECTORS[name]().train(), tiny.batch())
    _, losses = recorded(DETECTORS[name](), tiny.batch())
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", DETECTORS)
def test_nothing_is_left_behind_also_after_an_error(name: str) -> None:
    model = DETECTORS[name]().train()
    tiny.step(model, tiny.batch())
    before = {m: set(vars(module)) for m, module in model.named_modules()}
    recorded(model, tiny.batch())
    with pytest.raises(RuntimeError, match="boom"), record_student(model, []):
        raise RuntimeError("boom")
    assert number_of_hooks(model) == 0
    assert {m: set(vars(module)) for m, module in model.named_modules()} == before


@pytest.mark.parametrize("name", TWO_STAGE)
def test_the_outputs_are_those_of_the_roi_head_on_the_recorded_boxes(name: str) -> None:
    model = DETECTORS[name]()
    seen, _ = recorded(model, tiny.batch())
    assert len(seen.sampled) == len(seen.roi_boxes) == len(seen.rpn_proposals) == 2
    assert [len(x) for x in seen.sampled] == [len(x) for x in seen.roi_boxes]
    again = seen.run_roi_head(seen.roi_boxes)
    assert torch.equal(again.scores, seen.roi_outputs.scores)
    assert torch.equal(again.deltas, seen.roi_outputs.deltas)
    assert again.scores.requires_grad


def test_the_features_are_the_tensors_of_the_graph() -> None:
    model = tiny.build_fcos()
    seen, losses = recorded(model, tiny.batch())
    (gradient,) = torch.autograd.grad(sum(losses.values()), seen.features["p2"])
    assert gradient.abs().sum() > 0


def test_boxes_are_those_that_were_pooled_where_training_replaces_them() -> None:
    changes = {"MODEL__ROI_BOX_HEAD__TRAIN_ON_PRED_BOXES": True}
    model = tiny.build(tiny.rcnn_cfg(MODEL__MASK_ON=True, **changes))
    # Deltas of a size that moves every box.
    nn.init.constant_(model.roi_heads.box_predictor.bbox_pred.bias, 2.0)
    seen, _ = recorded(model, tiny.batch())
    replaced = [x.proposal_boxes.tensor for x in seen.sampled]
    assert not any(torch.equal(a, b.tensor) for a, b in zip(replaced, seen.roi_boxes, strict=True))
    assert torch.equal(seen.run_roi_head(seen.roi_boxes).scores, seen.roi_outputs.scores)


def test_ground_truth_is_padded_to_the_fullest_image() -> None:
    inputs = [*tiny.batch(), tiny.example([], seed=9)]
    truth = GroundTruth.from_inputs(inputs, torch.device("cpu"))
    assert truth.valid.tolist() == [[True, False], [True, True], [False, False]]
    assert truth.boxes.shape == (3, 2, 4)
    boxes = torch.cat([x["instances"].gt_boxes.tensor for x in inputs])
    assert torch.equal(truth.boxes[truth.valid], boxes)
    assert truth.classes.tolist() == [[0, 0], [0, 1], [0, 0]]
    assert not truth.boxes[~truth.valid].any()


def test_ground_truth_of_a_batch_without_boxes_is_empty() -> None:
    truth = GroundTruth.from_inputs(tiny.empty_batch(), torch.device("cpu"))
    assert truth.boxes.shape == (2, 0, 4) and truth.valid.shape == (2, 0)


def test_class_deltas_choose_each_proposals_own_class() -> None:
    deltas = torch.arange(24.0).view(2, 12)
    outputs = RoiOutputs(torch.zeros(2, 4), deltas, None)
    picked = outputs.class_deltas(torch.tensor([2, 0]))
    assert picked.tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    # The background (3) has none of its own.
    assert outputs.class_deltas(torch.tensor([3, 3])).tolist() == deltas[:, 8:].tolist()
    agnostic = RoiOutputs(torch.zeros(2, 4), deltas[:, :4], None)
    assert agnostic.class_deltas(torch.tensor([2, 0])) is agnostic.deltas


def test_the_roi_head_runs_on_images_without_boxes() -> None:
    model = tiny.build(tiny.rcnn_cfg())
    features = model.backbone(torch.zeros(2, 3, 64, 64))
    outputs = run_roi_head(model.roi_heads, features, [Boxes(torch.zeros(0, 4))] * 2)
    assert outputs.scores.shape == (0, 4) and outputs.deltas.shape == (0, 12)


# ------------------------------------------------------------- regions and pictures


def unequal() -> list[dict[str, Any]]:
    boxes = [[8, 8, 40, 48]], [[4, 20, 30, 60]]
    return [tiny.example(boxes[0], (50, 90)), tiny.example(boxes[1], (64, 40), seed=1)]


def test_sizes_are_those_of_the_images_without_padding() -> None:
    assert image_sizes(unequal()) == [(50, 90), (64, 40)]


@pytest.mark.parametrize("name", TWO_STAGE)
def test_the_regions_of_two_stages_are_the_proposals_before_any_sampling(name: str) -> None:
    seen, _ = recorded(DETECTORS[name](), unequal())
    regions = seen.proposals(3)
    for image, (height, width) in enumerate(image_sizes(unequal())):
        proposals = seen.rpn_proposals[image]
        own = regions.boxes[image][regions.valid[image]]
        # All of them, and no appended ground truth.
        assert len(own) > 3 and torch.equal(own, proposals.proposal_boxes.tensor)
        assert (own <= torch.tensor([width, height, width, height])).all()
        objectness = regions.objectness[image][regions.valid[image]]
        assert torch.equal(objectness, proposals.objectness_logits.sigmoid())


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_the_regions_of_a_dense_head_are_its_best_boxes(name: str) -> None:
    model = DETECTORS[name]()
    seen, _ = recorded(model, unequal())
    regions = seen.proposals(7)
    assert regions.boxes.shape == (2, 7, 4) and regions.valid.all()
    assert seen.rpn_proposals is None and seen.roi_outputs is None
    outputs = model.head([seen.features[x] for x in model.head_in_features])
    again = dense_proposals(model, seen.features, outputs, image_sizes(unequal()), 7)
    assert torch.equal(regions.boxes, again.boxes)
    assert torch.equal(regions.objectness, again.objectness)
    limits = torch.tensor([[[90.0, 50, 90, 50]], [[40.0, 64, 40, 64]]])
    assert (regions.boxes >= 0).all() and (regions.boxes <= limits).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_regions_are_constants(name: str) -> None:
    seen, _ = recorded(DETECTORS[name](), tiny.batch())
    regions: Proposals = seen.proposals(5)
    assert not regions.boxes.requires_grad and not regions.objectness.requires_grad


@pytest.mark.parametrize("name", DETECTORS)
def test_detecting_is_evaluation_and_leaves_every_mode_as_it_was(name: str) -> None:
    model = DETECTORS[name]()
    inputs = tiny.batch()
    seen, _ = recorded(model, inputs)
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    modes = {module: m.training for module, m in model.named_modules()}
    assert set(modes.values()) == {True, False}
    before = {k: x.clone() for k, x in model.state_dict().items()}
    found = seen.detect(1)
    assert {module: m.training for module, m in model.named_modules()} == modes
    assert tiny.equal(dict(model.state_dict()), before)
    with torch.no_grad():
        expected = model.eval()([{"image": inputs[1]["image"]}])[0]["instances"]
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert not found.scores.requires_grad


def test_modes_return_also_after_an_error() -> None:
    model = DETECTORS["faster_rcnn"]()
    seen, _ = recorded(model, tiny.batch())
    seen.batched_inputs[0]["image"] = None
    with pytest.raises(AttributeError):
        seen.detect(0)
    assert all(m.training for m in model.modules())

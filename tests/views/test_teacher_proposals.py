"""The teacher's regions and detections: computed when asked for, as by the detector itself."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from helpers import tiny
from torch import nn

from distill.views.proposals import Proposals, dense_proposals
from distill.views.student import image_sizes
from distill.views.teacher import FrozenTeacher


def count_calls(model: nn.Module, *names: str) -> Counter:
    """Counts the forwards of parts of a detector."""
    calls: Counter = Counter()
    for name in names:
        getattr(model, name).register_forward_hook(lambda *_, n=name: calls.update([n]))
    return calls


def test_regions_are_the_teachers_proposals_and_need_no_roi_head() -> None:
    teacher = FrozenTeacher(tiny.build(tiny.rcnn_cfg()))
    calls = count_calls(teacher.model, "backbone", "proposal_generator", "roi_heads")
    signals = teacher.signals(tiny.batch())
    regions = signals.proposals(4)
    assert calls == {"backbone": 1, "proposal_generator": 1}
    expected = Proposals.from_instances(signals.rpn_proposals)
    assert torch.equal(regions.boxes, expected.boxes) and regions.boxes.shape[1] > 4
    signals.proposals(4)
    assert calls == {"backbone": 1, "proposal_generator": 1}


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_regions_of_a_dense_teacher_are_the_best_boxes_of_its_head(name: str) -> None:
    model = tiny.build(tiny.retinanet_cfg()) if name == "retinanet" else tiny.build_fcos()
    calls = count_calls(model, "head")
    inputs = [tiny.example([], (50, 90)), tiny.example([], (64, 40), seed=1)]
    signals = FrozenTeacher(model).signals(inputs)
    assert signals.features and not calls
    regions = signals.proposals(6)
    signals.proposals(6)
    assert calls == {"head": 1}
    with torch.no_grad():
        features = model.backbone(model.preprocess_image(inputs).tensor)
        outputs = model.head([features[x] for x in model.head_in_features])
    expected = dense_proposals(model, features, outputs, image_sizes(inputs), 6)
    assert torch.equal(regions.boxes, expected.boxes)
    assert torch.equal(regions.objectness, expected.objectness)
    limits = torch.tensor([[[90.0, 50, 90, 50]], [[40.0, 64, 40, 64]]])
    assert (regions.boxes <= limits).all()
    assert not signals.head_outputs[0][0].requires_grad


def test_a_dense_head_runs_in_the_teachers_precision() -> None:
    cfg = tiny.retinanet_cfg(MODEL__FPN__NORM="")
    signals = FrozenTeacher(tiny.build(cfg), precision="bfloat16").signals(tiny.batch())
    assert {x.dtype for levels in signals.head_outputs for x in levels} == {torch.bfloat16}
    assert signals.proposals(4).boxes.dtype == torch.float32


@pytest.mark.parametrize("swap", [False, True])
def test_what_the_teacher_finds_is_its_own_evaluation_of_one_image(swap: bool) -> None:
    model = tiny.build(tiny.rcnn_cfg())
    inputs = tiny.batch()
    signals = FrozenTeacher(model, swap_channels=swap).signals(inputs)
    found = signals.detect(1)
    image = inputs[1]["image"]
    with torch.no_grad():
        expected = model([{"image": image.flip(0) if swap else image}])[0]["instances"]
    assert len(found) and torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert not any(m.training for m in model.modules())

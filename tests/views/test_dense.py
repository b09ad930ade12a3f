"""Dense predictions read level by level: the same form for every family of detector."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from detectron2.utils.events import EventStorage
from helpers import tiny, tiny_dense
from torch import nn

from distill.views.dense import DensePredictions
from distill.views.heads import dense_head
from distill.views.student import record_student
from distill.views.teacher import FrozenTeacher

EVERY = pytest.mark.parametrize("name", tiny_dense.DENSE)


def outputs_of(model: nn.Module) -> tuple[list[torch.Tensor], tuple]:
    """Maps of two images, and random outputs of the head's shapes."""
    inputs = tiny_dense.square_batch()
    model.eval()
    with torch.no_grad():
        features = model.backbone(model.preprocess_image(inputs).tensor)
        maps = [features[name] for name in model.head_in_features]
        outputs = model.head(maps)
    torch.manual_seed(3)
    return maps, tuple([torch.randn_like(x) for x in levels] for levels in outputs)


@EVERY
def test_every_row_is_one_anchor_of_one_cell(name: str) -> None:
    model = tiny_dense.DENSE[name]()
    maps, outputs = outputs_of(model)
    predictions = DensePredictions(dense_head(model), maps, outputs)
    anchors = [x.tensor for x in model.anchor_generator(maps)]
    for index, level in enumerate(predictions):
        height, width = predictions.sizes[index]
        per_cell = predictions.num_anchors[index]
        raw = outputs[0][index].unflatten(1, (per_cell, -1))
        deltas = outputs[1][index].unflatten(1, (per_cell, -1))
        assert torch.equal(level.anchors, anchors[index])
        cells = itertools.product(range(height), range(width), range(per_cell))
        for row, (y, x, a) in enumerate(cells):
            assert torch.equal(level.deltas[:, row], deltas[:, a, :, y, x])
            if name == "ssd":
                softmax = raw[:, a, :, y, x].softmax(1)[:, :-1]
                torch.testing.assert_close(level.logits[:, row].sigmoid(), softmax)
            else:
                assert torch.equal(level.logits[:, row], raw[:, a, :, y, x])
        assert level.logits.shape[1:] == (height * width * per_cell, tiny.NUM_CLASSES)


@EVERY
def test_a_cropped_level_holds_the_rows_of_the_first_cells(name: str) -> None:
    model = tiny_dense.DENSE[name]()
    predictions = DensePredictions(dense_head(model), *outputs_of(model))
    (height, width), per_cell = predictions.sizes[0], predictions.num_anchors[0]
    whole, part = predictions.level(0), predictions.level(0, (height - 1, width - 2))
    rows = torch.arange(height * width * per_cell).view(height, width, per_cell)
    rows = rows[:-1, :-2].flatten()
    assert torch.equal(part.anchors, whole.anchors[rows])
    assert torch.equal(part.logits, whole.logits[:, rows])
    assert torch.equal(part.boxes(), whole.boxes()[:, rows])


@EVERY
def test_boxes_are_those_of_the_detector_itself(name: str) -> None:
    """The best box of an image, as inference decodes it before suppression and clipping."""
    model = tiny_dense.DENSE[name]().eval()
    inputs = tiny_dense.square_batch()[:1]
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        features = model.backbone(images.tensor)
        maps = [features[x] for x in model.head_in_features]
        outputs = model.head(maps)
        found = model.forward_inference(images, maps, [[x.clone() for x in y] for y in outputs])[0]
    boxes = torch.cat(
        [x.boxes() for x in DensePredictions(dense_head(model), maps, outputs)], dim=1
    )[0]
    assert len(found)
    for box in found.pred_boxes.tensor[:5]:
        assert (boxes - box).abs().amax(1).min() < 1e-3


def test_a_level_without_a_cell_has_no_row() -> None:
    model = tiny_dense.retinanet()
    maps, outputs = outputs_of(model)
    maps[2] = maps[2][:, :, :0]
    outputs = tuple([*levels[:2], levels[2][:, :, :0]] for levels in outputs)
    level = DensePredictions(dense_head(model), maps, outputs).level(2)
    assert level.logits.shape == (2, 0, tiny.NUM_CLASSES) and level.boxes().shape == (2, 0, 4)


def test_classes_are_selected_and_put_in_the_students_order() -> None:
    model = tiny_dense.retinanet()
    maps, outputs = outputs_of(model)
    whole = DensePredictions(dense_head(model), maps, outputs)
    mapped = DensePredictions(dense_head(model), maps, outputs, torch.tensor([2, 0]))
    for level, other in zip(whole, mapped, strict=True):
        assert torch.equal(other.logits, level.logits[..., [2, 0]])
        assert torch.equal(other.boxes(), level.boxes())


@EVERY
def test_the_students_predictions_and_labels_are_those_of_its_own_forward(name: str) -> None:
    model = tiny_dense.DENSE[name]().train()
    inputs = tiny_dense.square_batch()
    with EventStorage(), record_student(model, inputs) as seen:
        model(inputs)
    levels = list(seen.dense())
    assert all(x.logits.requires_grad and x.boxes().requires_grad for x in levels)
    anchors = model.anchor_generator([seen.features[x] for x in model.head_in_features])
    expected = model.label_anchors(anchors, [x["instances"] for x in inputs])[0]
    expected = expected if isinstance(expected, torch.Tensor) else torch.stack(expected)
    assert torch.equal(seen.anchor_labels, expected)
    assert seen.anchor_labels.shape == (2, sum(len(x.anchors) for x in levels))
    assert "label_anchors" not in vars(model)


@EVERY
def test_the_teacher_runs_its_head_once_and_neither_labels_nor_suppresses(name: str) -> None:
    model = tiny_dense.DENSE[name]()
    calls: Counter = Counter()
    model.head.register_forward_hook(lambda *_: calls.update(["head"]))
    for forbidden in ("label_anchors", "forward_inference"):
        setattr(model, forbidden, None)
    signals = FrozenTeacher(model).signals(tiny_dense.square_batch())
    for level in (*signals.dense(), *signals.dense()):
        assert not level.logits.requires_grad and not level.boxes().requires_grad
    assert calls == {"head": 1}


def test_an_rpn_shows_its_objectness_without_proposals() -> None:
    teacher = FrozenTeacher(tiny.build(tiny.rcnn_cfg()))
    teacher.model.proposal_generator.predict_proposals = None
    signals = teacher.signals(tiny.batch())
    levels = list(signals.dense("rpn"))
    assert [x.logits.shape[2] for x in levels] == [1, 1, 1]
    student = tiny.build(tiny.rcnn_cfg()).train()
    with EventStorage(), record_student(student, tiny.batch()) as seen:
        student(tiny.batch())
    for level, other in zip(seen.dense("rpn"), levels, strict=True):
        assert level.logits.requires_grad and level.logits.shape == other.logits.shape
        assert torch.equal(level.anchors, other.anchors)


def test_nothing_is_rearranged_or_laid_out_before_it_is_asked_for() -> None:
    model = tiny_dense.gfl()
    maps, outputs = outputs_of(model)
    predictions = DensePredictions(dense_head(model), maps, outputs)
    model.anchor_generator.forward = None
    level = predictions.level(0)
    assert level.logits.shape[2] == tiny.NUM_CLASSES
    assert "deltas" not in vars(level) and "anchors" not in vars(level)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from helpers import tiny

from distill.modeling.atss import ATSS, ATSSHead
from distill.modeling.dense.config import tower_arguments

LOG2, LOG3 = math.log(2), math.log(3)


class OneLevel(Backbone):
    """A map of stride 16, of the image's own values."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"map": ShapeSpec(channels=3, stride=16)}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"map": x[:, :, ::16, ::16]}


def one_level(**changes) -> ATSS:
    """2x2 cells, which are the anchors as well, and two classes; else as published."""
    backbone = OneLevel()
    shapes = list(backbone.output_shape().values())
    tower = tower_arguments(shapes, num_classes=2, num_convs=4, norm="GN", prior_prob=0.01)
    arguments = {
        "topk": 9,
        "box_weights": (10.0, 10.0, 5.0, 5.0),
        "focal_loss_alpha": 0.25,
        "focal_loss_gamma": 2.0,
        "cls_loss_weight": 1.0,
        "box_loss_weight": 2.0,
        "centerness_loss_weight": 1.0,
        "test_score_thresh": 0.05,
        "test_topk_candidates": 1000,
        "test_nms_thresh": 0.6,
        "max_detections_per_image": 100,
        **changes,
    }
    return ATSS(
        backbone=backbone,
        head=ATSSHead(**tower),
        head_in_features=["map"],
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[16]], aspect_ratios=[1.0], strides=[16], offset=0.5
        ),
        num_classes=2,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        **arguments,
    )


def predictions(
    logits: dict[int, list[float]], centerness: dict[int, float] | None = None
) -> tuple[list[torch.Tensor], ...]:
    """A head's output where the cells in turn have these logits, and 0 else; boxes are anchors."""
    table = torch.zeros(4, 7)
    for cell, row in logits.items():
        table[cell, :2] = torch.tensor(row)
    for cell, value in (centerness or {}).items():
        table[cell, 6] = value
    maps = table.T.reshape(1, 7, 2, 2).split([2, 4, 1], dim=1)
    return tuple([x.clone().requires_grad_()] for x in maps)


def anchors_of(model: ATSS) -> list[Boxes]:
    return model.anchor_generator([torch.zeros(1, 3, 2, 2)])


def losses_of_two_objects(model: ATSS) -> dict[str, torch.Tensor]:
    """Cell 0 is an object of class 1, cell 3 one of class 0 whose center is a little higher."""
    outputs = predictions({0: [0.0, LOG3]}, {3: -LOG3})
    labels = torch.tensor([[1, 2, 2, 0]])
    boxes = anchors_of(model)[0].tensor[None].clone()
    # Around the center (24, 24): 8 to the left and right, 24 above and 6 below.
    boxes[0, 3] = torch.tensor([16.0, 0, 32, 30])
    return model.losses(anchors_of(model), outputs, labels, boxes)


def detected(model: ATSS, outputs: tuple[list[torch.Tensor], ...]) -> Instances:
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    with torch.no_grad():
        (found,) = model.forward_inference(images, [torch.zeros(1, 3, 2, 2)], outputs)
    return found


def test_the_losses_by_hand() -> None:
    losses = losses_of_two_objects(one_level())
    # Focal loss: p = 3/4 and 1/2 at the objects' classes, and 1/2 against 0 at six other places.
    focal = 0.25 * (math.log(4 / 3) / 16 + LOG2 / 4) + 0.75 * 6 * LOG2 / 4
    assert losses["loss_cls"].item() == pytest.approx(focal / 2)
    # Centerness 1 and sqrt(6/24) = 1/2. The second box has the rows 16 to 32, its object 0 to 30,
    # of equal width: the GIoU is 14/32.
    assert losses["loss_box_reg"].item() == pytest.approx(2.0 * 0.5 * (1 - 14 / 32) / 1.5)
    # p = 1/2 against 1, and 1/4 against 1/2.
    entropy = LOG2 + (math.log(4) + math.log(4 / 3)) / 2
    assert losses["loss_centerness"].item() == pytest.approx(entropy / 2)


def test_the_settings_of_the_losses_count() -> None:
    plain = losses_of_two_objects(one_level())
    names = ("loss_cls", "loss_box_reg", "loss_centerness")
    for name, setting in [
        (names[0], {"cls_loss_weight": 3.0}),
        (names[1], {"box_loss_weight": 6.0}),
        (names[2], {"centerness_loss_weight": 3.0}),
    ]:
        changed = losses_of_two_objects(one_level(**setting))
        ratios = [(changed[x] / plain[x]).item() for x in names]
        assert ratios == pytest.approx([3.0 if x == name else 1.0 for x in names])
    changed = losses_of_two_objects(one_level(focal_loss_alpha=0.5, focal_loss_gamma=0.0))
    # Plain cross-entropy, halved.
    entropy = math.log(4 / 3) + 7 * LOG2
    assert changed["loss_cls"].item() == pytest.approx(0.5 * entropy / 2)


@pytest.mark.parametrize("norm", ["BN", "GN"])
@pytest.mark.parametrize("inputs", [tiny.batch, tiny.empty_batch])
def test_a_training_step_reaches_every_parameter(atss_cfg, norm: str, inputs) -> None:
    model = tiny.build(atss_cfg(MODEL__ATSS__NORM=norm)).train()
    losses = tiny.step(model, inputs())
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_centerness"}
    assert all(loss.isfinite() for loss in losses.values())
    nothing = inputs is tiny.empty_batch
    assert (losses["loss_box_reg"] == 0) == (losses["loss_centerness"] == 0) == nothing
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_it_learns_a_batch_by_heart(atss_cfg) -> None:
    model = tiny.build(atss_cfg(MODEL__ATSS__NORM="BN")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    history = []
    with EventStorage():
        for _ in range(30):
            loss = sum(model(tiny.batch()).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
    assert np.mean(history[-3:]) < 0.6 * history[0]


def test_a_score_is_the_root_of_class_probability_times_centerness() -> None:
    # 3/4 * 1/4, beside three cells of 1/2 * 1/2 of another class.
    logits = {0: [LOG3, -99.0], **{cell: [-99.0, 0.0] for cell in (1, 2, 3)}}
    found = detected(one_level(), predictions(logits, {0: -LOG3}))
    assert found.pred_classes.tolist() == [1, 1, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.5, 0.5, 0.5, math.sqrt(3) / 4])
    assert found.pred_boxes.tensor[3].tolist() == [0, 0, 16, 16]


def test_the_threshold_is_one_of_the_class_probability() -> None:
    # Class probability 3/4, but a score of sqrt(3/4 * 1/100).
    logits = {0: [LOG3, -99.0], **{cell: [-99.0, -LOG3] for cell in (1, 2, 3)}}
    outputs = predictions(logits, {0: -math.log(99), 1: 9.0})
    found = detected(one_level(test_score_thresh=0.5), outputs)
    assert found.scores.tolist() == pytest.approx([math.sqrt(0.0075)])


def test_duplicates_and_too_many_are_dropped() -> None:
    logits = {cell: [2.0 - cell, -99.0] for cell in range(4)}
    classes, deltas, centerness = predictions(logits)
    with torch.no_grad():
        # One anchor to the right: 16 pixels, times the weight, over the anchor's width.
        deltas[0][0, 0, 0, 0] = 10.0
    outputs = classes, deltas, centerness
    assert detected(one_level(), outputs).pred_boxes.tensor[:, 0].tolist() == [16, 0, 16]
    assert len(detected(one_level(test_nms_thresh=1.0), outputs)) == 4
    assert len(detected(one_level(test_topk_candidates=1), outputs)) == 1
    assert len(detected(one_level(max_detections_per_image=2), outputs)) == 2


def test_detections_lie_in_the_image(atss_cfg) -> None:
    model = tiny.build(atss_cfg(MODEL__ATSS__SCORE_THRESH_TEST=0.0)).eval()
    with torch.no_grad():
        found = [x["instances"] for x in model(tiny.batch())]
    for instances in found:
        corners = instances.pred_boxes.tensor
        assert 0 < len(instances) <= 100 and (corners >= 0).all() and (corners <= 64).all()


def test_a_level_may_be_without_objects_and_an_image_without_any(atss_cfg) -> None:
    model = tiny.build(atss_cfg()).train()
    inputs = [tiny.example([]), tiny.example([[8, 8, 22, 24]])]
    losses = tiny.step(model, inputs)
    assert all(loss.isfinite() for loss in losses.values()) and losses["loss_box_reg"] > 0


def test_several_anchors_a_location_and_no_candidates_are_refused(atss_cfg) -> None:
    cfg = atss_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0]]
    with pytest.raises(ValueError, match=r"ATSS has one anchor.*makes \[2, 2, 2\].*ASPECT_RATIOS"):
        build_model(cfg)
    with pytest.raises(ValueError, match="MODEL.ATSS.TOPK is 0, but must be at least 1"):
        build_model(atss_cfg(MODEL__ATSS__TOPK=0))

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

from distill.modeling.dense.config import tower_arguments
from distill.modeling.gfl import GFL, GFLHead
from distill.views.student import record_student

LOG2, LOG3 = math.log(2), math.log(3)


class OneLevel(Backbone):
    """A map of stride 16, of the image's own values."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"map": ShapeSpec(channels=3, stride=16)}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"map": x[:, :, ::16, ::16]}


def one_level(**changes) -> GFL:
    """2x2 cells of 16 pixels, anchors of 20 in their middle, two classes and three bins."""
    backbone = OneLevel()
    shapes = list(backbone.output_shape().values())
    tower = tower_arguments(shapes, num_classes=2, num_convs=4, norm="GN", prior_prob=0.01)
    arguments = {
        "anchor_generator": DefaultAnchorGenerator(
            sizes=[[20]], aspect_ratios=[1.0], strides=[16], offset=0.5
        ),
        "head": GFLHead(reg_max=2, **tower),
        "num_classes": 2,
        "reg_max": 2,
        "topk": 9,
        "quality_beta": 2.0,
        "cls_loss_weight": 1.0,
        "box_loss_weight": 2.0,
        "dfl_loss_weight": 0.25,
        "test_score_thresh": 0.05,
        "test_topk_candidates": 1000,
        "test_nms_thresh": 0.6,
        "max_detections_per_image": 100,
        **changes,
    }
    return GFL(
        backbone=backbone,
        head_in_features=["map"],
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        **arguments,
    )


def predictions(
    logits: dict[int, list[float]], sides: dict[int, list[list[float]]] | None = None
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """A head's output where the cells in turn have these logits, and distributions by side.

    Other logits are 0; the other distributions are halves of 0 and 1, so the sides half a stride
    from the center: the boxes are the cells.
    """
    scores, bins = torch.zeros(4, 2), torch.tensor([0.0, 0.0, -1e4]).repeat(4, 4)
    for cell, row in logits.items():
        scores[cell] = torch.tensor(row)
    for cell, rows in (sides or {}).items():
        bins[cell] = torch.tensor(rows).flatten()
    maps = [x.T.reshape(1, -1, 2, 2).clone().requires_grad_() for x in (scores, bins)]
    return [maps[0]], [maps[1]]


def anchors_of(model: GFL) -> list[Boxes]:
    return model.anchor_generator([torch.zeros(1, 3, 2, 2)])


def two_objects() -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and boxes: cell 0 is an object of class 1, cell 3 one that is twice as tall."""
    labels = torch.tensor([[1, 2, 2, 0]])
    boxes = torch.tensor([[[0.0, 0, 16, 16], [0, 0, 1, 1], [0, 0, 1, 1], [16, 8, 32, 40]]])
    return labels, boxes


def detected(model: GFL, outputs: tuple[list[torch.Tensor], list[torch.Tensor]]) -> Instances:
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    with torch.no_grad():
        (found,) = model.forward_inference(images, [torch.zeros(1, 3, 2, 2)], outputs)
    return found


def test_the_losses_by_hand() -> None:
    model = one_level()
    outputs = predictions({0: [0.0, LOG3], 3: [LOG3, 0.0]})
    losses = model.losses(anchors_of(model), outputs, *two_objects())
    # p = 3/4 at both objects, whose IoUs are 1 and 1/2; p = 1/2 against 0 at six other places.
    quality = (math.log(4 / 3) + (math.log(4 / 3) + math.log(4)) / 2) / 16 + 6 * LOG2 / 4
    assert losses["loss_cls"].item() == pytest.approx(quality / 2)
    # GIoU 1 and 1/2, both of weight 3/4.
    assert losses["loss_box_reg"].item() == pytest.approx(2.0 * 0.375 / 1.5)
    # The sides are 1/2 or 1 stride away: both have half of the probability at either bin.
    assert losses["loss_dfl"].item() == pytest.approx(0.25 * LOG2)


def test_the_loss_weights_are_factors() -> None:
    outputs = predictions({0: [0.0, LOG3]})
    plain = one_level()
    factors = {"cls_loss_weight": 3.0, "box_loss_weight": 4.0, "dfl_loss_weight": 0.5}
    weighted = one_level(**factors)
    before, after = (x.losses(anchors_of(x), outputs, *two_objects()) for x in (plain, weighted))
    ratios = {name: (after[name] / before[name]).item() for name in before}
    assert ratios == pytest.approx({"loss_cls": 3, "loss_box_reg": 2, "loss_dfl": 2})


def test_a_distance_beyond_the_last_bin_is_learned_as_nearly_that() -> None:
    model = one_level(dfl_loss_weight=1.0)
    labels, boxes = two_objects()
    boxes[0, 3] = torch.tensor([-80.0, 16, 32, 32])
    # Distances of 6.5 strides, then 1/2 thrice; the left side is taken as 1.9.
    bins = [[0.0, 0.0, LOG2]] + [[0.0, 0.0, -1e4]] * 3
    outputs = predictions({0: [0.0, 99.0], 3: [99.0, 0.0]}, {3: bins})
    loss = model.losses(anchors_of(model), outputs, labels, boxes)["loss_dfl"].item()
    beyond = 0.1 * math.log(4) + 0.9 * LOG2
    assert loss == pytest.approx((LOG2 + (beyond + 3 * LOG2) / 4) / 2, rel=1e-5)


def test_quality_and_weights_have_no_gradient() -> None:
    model = one_level()
    outputs = predictions({0: [0.0, LOG3], 3: [LOG3, 0.0]})
    losses = model.losses(anchors_of(model), outputs, *two_objects())
    gradient = torch.autograd.grad
    (logits,), (bins,) = outputs
    kept = {"retain_graph": True, "allow_unused": True}
    assert gradient(losses["loss_cls"], bins, **kept)[0] is None
    for name in ("loss_box_reg", "loss_dfl"):
        assert gradient(losses[name], logits, **kept)[0] is None
        assert gradient(losses[name], bins, **kept)[0].abs().max() > 0


@pytest.mark.parametrize("norm", ["BN", "GN"])
@pytest.mark.parametrize("inputs", [tiny.batch, tiny.empty_batch])
def test_a_training_step_reaches_every_parameter(gfl_cfg, norm: str, inputs) -> None:
    model = tiny.build(gfl_cfg(MODEL__GFL__NORM=norm)).train()
    losses = tiny.step(model, inputs())
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_dfl"}
    assert all(loss.isfinite() for loss in losses.values())
    assert (losses["loss_box_reg"] == 0) == (losses["loss_dfl"] == 0) == (inputs != tiny.batch)
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_objects_without_area_are_background(gfl_cfg) -> None:
    model = tiny.build(gfl_cfg()).train()
    losses = tiny.step(model, [tiny.example([[20, 20, 20, 40], [9, 9, 9, 9]])])
    assert losses["loss_box_reg"] == losses["loss_dfl"] == 0
    assert losses["loss_cls"].isfinite()


def test_it_learns_a_batch_by_heart(gfl_cfg) -> None:
    model = tiny.build(gfl_cfg(MODEL__GFL__NORM="BN")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    history = []
    with EventStorage():
        for _ in range(40):
            losses = model(tiny.batch())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append((losses["loss_box_reg"] + losses["loss_dfl"]).item())
    assert np.mean(history[-3:]) < 0.6 * history[0]


def test_labels_are_the_classes_of_the_objects_and_else_background() -> None:
    model = one_level()
    images = [Instances((32, 32)), Instances((32, 32))]
    images[0].gt_boxes = Boxes(torch.tensor([[0.0, 0, 18, 18], [15.0, 15, 32, 32]]))
    images[0].gt_classes = torch.tensor([1, 0])
    images[1].gt_boxes = Boxes(torch.zeros(0, 4))
    images[1].gt_classes = torch.zeros(0, dtype=torch.int64)
    labels, boxes = model.label_anchors(anchors_of(model), images)
    assert labels.tolist() == [[1, 2, 2, 0], [2] * 4]
    assert boxes[0, 0].tolist() == [0, 0, 18, 18] and boxes[0, 3].tolist() == [15, 15, 32, 32]
    # The anchors' own boxes elsewhere.
    torch.testing.assert_close(boxes[1], anchors_of(model)[0].tensor)
    region = model.valuable_region(anchors_of(model), images)
    assert region.shape == (2, 4) and region.dtype == torch.float32 and not region[1].any()


def test_the_valuable_region_uses_the_detectors_own_candidates() -> None:
    images = [Instances((32, 32))]
    images[0].gt_boxes = Boxes(torch.tensor([[0.0, 0, 32, 16]]))
    images[0].gt_classes = torch.tensor([1])
    # Two anchors fit alike; the threshold is their IoU if they are the only candidates, so both
    # are positive, and above it if the other two are candidates as well.
    for topk, expected in [(2, [False] * 4), (9, [True, True, False, False])]:
        model = one_level(topk=topk)
        assert (model.valuable_region(anchors_of(model), images)[0] > 0).tolist() == expected


def test_sides_are_left_top_right_bottom_in_strides_whatever_the_anchors_size() -> None:
    model = one_level(reg_max=4)
    bins = torch.full((1, 1, 4, 5), -1e4)
    for side, distance in enumerate((1, 2, 3, 4)):
        bins[0, 0, side, distance] = 0
    for anchor in ([40.0, 40, 60, 60], [49.0, 49, 51, 51]):
        boxes = model.decode_boxes(bins.flatten(2), torch.tensor([anchor]), 8)
        assert boxes.tolist() == [[[42, 34, 74, 82]]]


def test_decoded_boxes_have_a_gradient() -> None:
    bins = torch.zeros(2, 3, 12, requires_grad=True)
    one_level().decode_boxes(bins, torch.rand(3, 4), 8).square().sum().backward()
    assert (bins.grad.abs().sum(dim=-1) > 0).all()


def test_a_box_is_detected_with_its_score() -> None:
    far = [[-1e4, 0.0, -1e4]] * 4
    found = detected(one_level(), predictions({1: [LOG3, -99.0], **background(0, 2, 3)}, {1: far}))
    assert found.pred_boxes.tensor.tolist() == [[8, -8, 40, 24]]
    assert found.pred_classes.tolist() == [0]
    torch.testing.assert_close(found.scores, torch.tensor([0.75]))


def background(*cells: int) -> dict[int, list[float]]:
    return {cell: [-99.0, -99.0] for cell in cells}


def test_low_scores_duplicates_and_too_many_are_dropped() -> None:
    # Cells 0 and 1 have the same box, by way of bins of zero and of one stride.
    same = [[-1e4, 0, -1e4], [0, 0, -1e4], [0, -1e4, -1e4], [0, 0, -1e4]]
    also = [[0, -1e4, -1e4], [0, 0, -1e4], [-1e4, 0, -1e4], [0, 0, -1e4]]
    logits = {0: [2.0, -99], 1: [1.0, -99], 2: [-99.0, 0], 3: [-3.0, -99]}
    outputs = predictions(logits, {0: also, 1: same})
    assert detected(one_level(test_score_thresh=0.04), outputs).pred_classes.tolist() == [0, 1, 0]
    assert len(detected(one_level(), outputs)) == 2
    assert len(detected(one_level(test_score_thresh=0.6), outputs)) == 1
    assert len(detected(one_level(test_nms_thresh=1.0), outputs)) == 3
    assert len(detected(one_level(test_topk_candidates=1), outputs)) == 1
    assert len(detected(one_level(max_detections_per_image=1), outputs)) == 1
    assert len(detected(one_level(), predictions(background(0, 1, 2, 3)))) == 0


def test_detections_lie_in_the_image_and_scale_with_the_size_asked_for(gfl_cfg) -> None:
    model = tiny.build(gfl_cfg(MODEL__GFL__SCORE_THRESH_TEST=0.0)).eval()
    example = tiny.batch()[0]
    with torch.no_grad():
        small, large = (
            model([{**example, "height": 64 * k, "width": 64 * k}])[0]["instances"] for k in (1, 2)
        )
    corners = small.pred_boxes.tensor
    assert 0 < len(small) <= 100 and (corners >= 0).all() and (corners <= 64).all()
    torch.testing.assert_close(large.pred_boxes.tensor, 2 * corners)


def test_a_recorder_sees_what_the_head_returned(gfl_cfg) -> None:
    model = tiny.build(gfl_cfg()).train()
    with record_student(model, tiny.batch()) as signals:
        tiny.step(model, tiny.batch())
    assert [x.shape[1] for x in signals.head_outputs[1]] == [4 * (model.reg_max + 1)] * 3


def test_several_anchors_a_location_are_refused(gfl_cfg) -> None:
    cfg = gfl_cfg(MODEL__ANCHOR_GENERATOR__SIZES=[[16, 20], [24], [40]])
    with pytest.raises(ValueError, match=r"GFL has one anchor.*makes \[2, 1, 1\].*SIZES"):
        build_model(cfg)


@pytest.mark.parametrize("key", ["TOPK", "REG_MAX"])
def test_no_candidate_and_no_distance_are_refused(gfl_cfg, key: str) -> None:
    with pytest.raises(ValueError, match=f"MODEL.GFL.{key} is 0, but must be at least 1"):
        build_model(gfl_cfg(**{f"MODEL__GFL__{key}": 0}))

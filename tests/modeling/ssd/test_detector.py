from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from helpers import tiny

from distill.modeling.ssd import SSD, SSDAnchorGenerator, SSDHead
from distill.views.student import record_student

BACKBONES = ["build_ssd_vgg_backbone", "build_ssd_bivgg_backbone"]


class OneLevel(Backbone):
    """A map of stride 16, of the image's own values."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"map": ShapeSpec(channels=3, stride=16)}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"map": x[:, :, ::16, ::16]}


def one_level(**changes) -> SSD:
    """2x2 cells of three anchors, with sides 16, 32 and 16, and two classes; else as published."""
    anchors = SSDAnchorGenerator(sizes=[16, 64], aspect_ratios=[[1.0]], strides=[16])
    arguments = {
        "box_weights": (10.0, 10.0, 5.0, 5.0),
        "iou_threshold": 0.5,
        "negative_ratio": 3.0,
        "test_score_thresh": 0.01,
        "test_topk_candidates": 400,
        "test_nms_thresh": 0.45,
        "max_detections_per_image": 200,
        **changes,
    }
    return SSD(
        backbone=OneLevel(),
        head=SSDHead([3], anchors.num_anchors, num_classes=2),
        anchor_generator=anchors,
        num_classes=2,
        image_size=32,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        **arguments,
    )


def detected(model: SSD, logits: dict[int, list[float]]) -> Instances:
    """Detections where the 12 anchors in turn have these logits, and certain background else."""
    table = torch.tensor([[0.0, 0.0, 20.0]] * 12)
    for place, values in logits.items():
        table[place] = torch.tensor(values)
    # To (1, A (K + 1), H, W), whose order of anchors is H, W, A.
    maps = table.reshape(2, 2, 9).permute(2, 0, 1)[None]
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    features = [torch.zeros(1, 3, 2, 2)]
    (instances,) = model.forward_inference(images, features, ([maps], [torch.zeros(1, 12, 2, 2)]))
    return instances


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("inputs", [tiny.batch, tiny.empty_batch])
def test_a_training_step_reaches_every_parameter(ssd_cfg, name: str, inputs) -> None:
    model = build_model(ssd_cfg(MODEL__BACKBONE__NAME=name))
    losses = tiny.step(model, inputs())
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_it_learns_a_batch_by_heart(ssd_cfg, name: str) -> None:
    torch.manual_seed(0)
    model = build_model(ssd_cfg(MODEL__BACKBONE__NAME=name, MODEL__SSD__NORM="BN"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    history = []
    with EventStorage():
        for _ in range(30):
            loss = sum(model(tiny.batch()).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
    assert np.mean(history[-3:]) < 0.5 * history[0]


def test_labels_are_the_classes_of_the_matched_objects_and_else_background() -> None:
    model = one_level()
    anchors = model.anchor_generator([torch.zeros(1, 3, 2, 2)])
    images = [Instances((32, 32)), Instances((32, 32))]
    images[0].gt_boxes = Boxes(torch.tensor([[0.0, 0, 16, 15], [16, 16, 32, 31]]))
    images[0].gt_classes = torch.tensor([1, 0])
    images[1].gt_boxes = Boxes(torch.zeros(0, 4))
    images[1].gt_classes = torch.zeros(0, dtype=torch.int64)
    labels, boxes = model.label_anchors(anchors, images)
    # The anchors 0 and 2, 9 and 11 have the place and size of the two objects.
    assert labels.tolist() == [[1, 2, 1, 2, 2, 2, 2, 2, 2, 0, 2, 0], [2] * 12]
    assert boxes[0, [0, 2]].tolist() == [[0, 0, 16, 15]] * 2
    assert boxes[0, 9].tolist() == [16, 16, 32, 31]
    torch.testing.assert_close(boxes[1], anchors[0].tensor)


def test_a_box_is_decoded_from_its_anchor_with_the_softmax_score() -> None:
    instances = detected(one_level(), {6: [0.0, math.log(3), 0.0]})
    torch.testing.assert_close(instances.pred_boxes.tensor, torch.tensor([[0.0, 16, 16, 32]] * 2))
    assert instances.pred_classes.tolist() == [1, 0]
    torch.testing.assert_close(instances.scores, torch.tensor([0.6, 0.2]))


def test_duplicates_are_suppressed_within_a_class_only() -> None:
    # The anchors 0 and 2 are the same square, 3 is the next one.
    logits = {0: [4.0, -9, 0], 2: [5.0, -9, 0], 3: [3.0, -9, 0]}
    assert detected(one_level(), logits).pred_boxes.tensor[:, 0].tolist() == [0, 16]
    logits[2] = [-9.0, 5, 0]
    assert detected(one_level(), logits).pred_classes.tolist() == [1, 0, 0]


def test_low_scores_and_too_many_candidates_and_detections_are_dropped() -> None:
    logits = {0: [4.0, -9, 0], 3: [3.0, -9, 0], 6: [-9.0, 2, 0], 9: [0.0, -9, 0]}
    assert len(detected(one_level(), logits)) == 4
    assert len(detected(one_level(test_score_thresh=0.6), logits)) == 3
    # The best candidate of each of the two classes.
    assert detected(one_level(test_topk_candidates=1), logits).pred_classes.tolist() == [0, 1]
    assert detected(one_level(max_detections_per_image=1), logits).pred_classes.tolist() == [0]
    assert len(detected(one_level(), {})) == 0


def test_detections_are_scaled_to_the_size_asked_for(ssd_cfg) -> None:
    model = build_model(ssd_cfg(MODEL__SSD__SCORE_THRESH_TEST=0.0)).eval()
    example = tiny.batch()[0]
    with torch.no_grad():
        small, large = (
            model([{**example, "height": 64 * k, "width": 64 * k}])[0]["instances"] for k in (1, 2)
        )
    assert 0 < len(small) <= 100 and large.image_size == (128, 128)
    torch.testing.assert_close(large.pred_boxes.tensor, 2 * small.pred_boxes.tensor)


def test_objectness_is_all_but_the_background() -> None:
    logits = torch.tensor([[[0.0, math.log(2), 0.0], [0.0, 0.0, math.log(6)]]])
    (objectness,) = one_level().objectness([[logits]])
    torch.testing.assert_close(objectness, torch.tensor([[0.75, 0.25]]))


def test_images_of_another_size_are_refused(ssd_cfg) -> None:
    model = build_model(ssd_cfg())
    with pytest.raises(ValueError, match="64x80 pixels, but MODEL.SSD.IMAGE_SIZE is 64: set INPUT"):
        model([tiny.example([[8, 8, 40, 48]], size=(64, 80))])


def test_a_recorder_sees_the_levels_by_name(ssd_cfg) -> None:
    model = build_model(ssd_cfg())
    with record_student(model, tiny.batch()) as signals:
        tiny.step(model, tiny.batch())
    assert list(signals.features) == model.head_in_features == ["conv4_3", "fc7", "extra1"]

"""What a detector offers is told by the contract's members, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes, ImageList, Instances
from helpers import tiny, tiny_dense
from torch import Tensor, nn
from torch.nn import functional as F

from distill.methods import ADL, BCKD, LD
from distill.views.classes import num_classes
from distill.views.contract import offered_signals
from distill.views.heads import dense_head
from distill.views.proposals import dense_proposals

TWO_STAGE = {"features", "rpn_proposals", "proposals", "rpn"}
ONE_STAGE = {"features", "proposals", "dense"}


class PointDetector(nn.Module):
    """A detector of one's own: one class, and at each cell a box of twice the stride, moved."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = tiny.build(tiny.rcnn_cfg()).backbone
        self.head = PointHead()
        self.head_in_features = ["p2", "p3"]
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[8.0], [16.0]], aspect_ratios=[1.0], strides=[4, 8], offset=0.5
        )
        self.num_classes = 3

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        images = [(x["image"].to(self.device).float() - 110) / 60 for x in batched_inputs]
        return ImageList.from_tensors(images, 16)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        maps = [features[name] for name in self.head_in_features]
        outputs = self.head(maps)
        if not self.training:
            return [{"instances": x} for x in self.forward_inference(images, maps, outputs)]
        anchors = self.anchor_generator(maps)
        labels, _ = self.label_anchors(anchors, [x["instances"] for x in batched_inputs])
        logits = torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in outputs[0]], dim=1)
        target = F.one_hot(labels, self.num_classes + 1)[..., :-1].float()
        moved = sum(x.square().mean() for x in outputs[1])
        loss = F.binary_cross_entropy_with_logits(logits, target)
        return {"loss_cls": loss, "loss_moved": 0.1 * moved}

    def label_anchors(self, anchors: list[Boxes], instances: list[Instances]) -> tuple[Any, Any]:
        table = Boxes.cat(anchors)
        labels, boxes = [], []
        for objects in instances:
            x, y = table.get_centers().unbind(1)
            x0, y0, x1, y1 = objects.gt_boxes.tensor[:, :, None].unbind(1)
            hit = (x > x0) & (x < x1) & (y > y0) & (y < y1)
            labels.append(
                torch.where(hit.any(0), objects.gt_classes[hit.int().argmax(0)], self.num_classes)
            )
            boxes.append(table.tensor)
        return torch.stack(labels), torch.stack(boxes)

    def class_logits(self, logits: Tensor) -> Tensor:
        return logits

    def decode_boxes(self, deltas: Tensor, anchors: Tensor, stride: int) -> Tensor:
        return anchors + stride * deltas.repeat(1, 1, 2)

    def objectness(self, outputs: Any) -> list[Tensor]:
        return [x.amax(2).sigmoid() for x in outputs[0]]

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Any
    ) -> list[Instances]:
        return [Instances(size) for size in images.image_sizes]


class PointHead(nn.Module):
    """(N, 3, H, W) logits and (N, 2, H, W) moves of a box by level."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(8, 5, 1)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        outputs = [self.convolution(x) for x in maps]
        return [x[:, :3] for x in outputs], [x[:, 3:] for x in outputs]


def test_what_each_detector_offers() -> None:
    for build in (tiny.rcnn_cfg, tiny.c4_cfg):
        assert offered_signals(tiny.build(build())) == TWO_STAGE | {"roi"}
    for name, build in tiny_dense.DENSE.items():
        distribution = {"distribution"} if name == "gfl" else set()
        assert offered_signals(build()) == ONE_STAGE | distribution


def test_a_cascade_offers_no_roi_signal() -> None:
    cfg = tiny.rcnn_cfg(
        MODEL__ROI_HEADS__NAME="CascadeROIHeads",
        MODEL__ROI_HEADS__IOU_THRESHOLDS=[0.5],
        MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True,
    )
    assert offered_signals(tiny.build(cfg)) == TWO_STAGE


def test_a_module_without_boxes_offers_nothing() -> None:
    assert offered_signals(nn.Linear(1, 1)) == set()


def test_an_attribute_of_a_familiar_name_makes_no_distribution() -> None:
    model = tiny_dense.retinanet()
    model.reg_max = 16
    assert offered_signals(model) == ONE_STAGE


@pytest.mark.parametrize("name", ["retinanet", "gfl"])
def test_what_else_a_head_returns_is_not_taken_for_centerness(name: str) -> None:
    model = tiny_dense.DENSE[name]()
    inputs = tiny_dense.square_batch()
    features = model.backbone(model.preprocess_image(inputs).tensor)
    outputs = list(model.head([features[x] for x in model.head_in_features]))[:2]
    sizes = [(64, 64)] * 2
    plain = dense_proposals(model, features, outputs, sizes, 9)
    per_cell = model.anchor_generator.num_anchors[0]
    more = [*outputs, [torch.full_like(x[:, :per_cell], -9.0) for x in outputs[0]]]
    other = dense_proposals(model, features, more, sizes, 9)
    assert torch.equal(plain.objectness, other.objectness)


def test_methods_distill_a_detector_of_ones_own() -> None:
    student, teacher = PointDetector(), PointDetector()
    assert offered_signals(student) == ONE_STAGE and num_classes(student) == 3
    assert dense_head(student) is student
    methods = [tiny_dense.method(kind) for kind in (ADL, BCKD)]
    model = tiny_dense.pair(student, teacher, *methods)
    losses = tiny.step(model, tiny.batch())
    assert {"loss_adl", "loss_bckd_cls", "loss_bckd_loc", "loss_cls"} <= losses.keys()
    assert all(x > 0 for name, x in losses.items() if name != "loss_moved")
    sum(losses.values()).backward()
    assert not tiny.without_gradient(student.head)


def test_a_pair_that_does_not_offer_a_signal_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="LD needs the signal distribution of the student, which"):
        tiny_dense.pair(PointDetector(), tiny_dense.gfl(), tiny_dense.method(LD))

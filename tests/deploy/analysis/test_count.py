from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from helpers.tiny import build, build_fcos, c4_cfg, example, rcnn_cfg, retinanet_cfg
from torch import Tensor, nn

from distill.deploy.analysis import Cost, count_costs
from distill.deploy.packed_layers import packed_layer, replace_layers
from distill.modeling.binary import BinaryConv2d, LearnableBias

BINARY = {
    "MODEL__BACKBONE__NAME": "build_binary_slim_fpn_backbone",
    "MODEL__RPN__HEAD_NAME": "BinaryRPNHead",
}


class Backbone(nn.Module):
    """A real stem to half the size, a convolution to be counted, and a normalization."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.conv = conv
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"level": self.norm(self.conv(self.stem(x)))}


class Head(nn.Module):
    def __init__(self, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 2, kernel_size)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [self.conv(x) for x in features]


class Detector(nn.Module):
    head_in_features = ["level"]

    def __init__(self, conv: nn.Module, **head: int) -> None:
        super().__init__()
        self.backbone = Backbone(conv)
        self.head = Head(**head)


def detector_of(**kind: Any) -> Detector:
    return Detector(BinaryConv2d(4, 8, 3, padding=1, **kind))


def inference(detector: nn.Module, size: tuple[int, int]) -> tuple[dict[str, int], int]:
    """Products of each layer in the detector's own inference, and the proposals that it made."""
    products: Counter[str] = Counter()
    proposals = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            weight = module.weight
            # Of each output, as many as it has inputs.
            products[name] += output.numel() * weight[0].numel()
            if name.endswith("cls_score"):
                proposals.append(len(output))

        module.register_forward_hook(hook)

    for name, module in detector.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            watch(name, module)
    with torch.no_grad():
        detector.eval()([example([], size)])
    return dict(products), proposals[0]


CASCADE = {
    "MODEL__ROI_HEADS__NAME": "CascadeROIHeads",
    "MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL__ROI_BOX_CASCADE_HEAD__IOUS": (0.2, 0.3, 0.4),
}


@pytest.mark.parametrize(
    "make",
    [
        lambda: build(rcnn_cfg()),
        lambda: build(rcnn_cfg(**BINARY)),
        lambda: build(rcnn_cfg(**CASCADE)),
        lambda: build(c4_cfg()),
        lambda: build(retinanet_cfg()),
        build_fcos,
    ],
    ids=["faster_rcnn", "binary", "cascade", "c4", "retinanet", "fcos"],
)
def test_the_products_of_every_layer_are_those_of_inference(make):
    expected, proposals = inference(make(), (64, 96))
    costs = count_costs(make(), (64, 96), proposals)
    counted = {x.name: x.cost.macs_1bit + x.cost.macs_real for x in costs.layers}
    assert counted == expected
    assert costs.uncounted == ()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({}, Cost(288, 112 + 8 + 18, 3456, 1296 + 192)),
        ({"quantizer": "learned"}, Cost(288, 112 + 8 + 18, 3456, 1296 + 192)),
        ({"bias": True}, Cost(288, 112 + 8 + 8 + 18, 3456, 1296 + 192)),
        ({"binarize_activations": False}, Cost(288, 112 + 8 + 18, 0, 3456 + 1296 + 192)),
        ({"binarize_weights": False}, Cost(0, 112 + 288 + 18, 0, 3456 + 1296 + 192)),
    ],
    ids=["mean", "learned", "bias", "weights only", "activations only"],
)
def test_what_counts_as_1bit(kind, expected):
    # 5x7 pixels are 3x4 cells. Stem: 4 x 27 weights, 4 biases; convolution: 8 x 36 weights, 8
    # alphas; head: 2 x 8 weights, 2 biases.
    costs = count_costs(detector_of(**kind), (5, 7))
    assert costs.total == expected
    assert list(costs.groups) == ["stem", "backbone", "head"]
    assert costs.groups["stem"] == Cost(params_real=112, macs_real=1296)
    assert costs.groups["head"] == Cost(params_real=18, macs_real=192)


def test_parameters_are_all_but_those_of_other_layers():
    detector = build(rcnn_cfg(**BINARY, MODEL__BINARY__QUANTIZER="learned"))
    others = (nn.BatchNorm2d, nn.PReLU, LearnableBias)
    expected = sum(
        parameter.numel()
        for module in detector.modules()
        if not isinstance(module, others)
        for parameter in module.parameters(recurse=False)
    )
    total = count_costs(detector, (64, 64), 4).total
    assert total.params_1bit + total.params_real == expected
    binary = [x for x in detector.modules() if isinstance(x, BinaryConv2d)]
    assert total.params_1bit == sum(x.weight.numel() for x in binary)


def test_a_packed_detector_costs_what_it_did_before():
    detector = build(rcnn_cfg(**BINARY))
    before = count_costs(detector, (64, 64), 4)
    replace_layers(detector, packed_layer)
    assert count_costs(detector.eval(), (64, 64), 4) == before


def test_levels_of_an_unpadded_image_round_up():
    costs = {x.name: x.cost for x in count_costs(build(rcnn_cfg()), (50, 70), 4).layers}
    # 50 x 70 pixels: 25 x 35 after the stem, then 13 x 18, 7 x 9 and 4 x 5.
    for level, cells in ((2, 13 * 18), (3, 7 * 9), (4, 4 * 5)):
        assert costs[f"backbone.fpn_output{level}"].macs_real == 8 * 8 * 9 * cells


def test_groups_of_a_two_stage_detector_in_the_order_of_the_data():
    groups = count_costs(build(rcnn_cfg(**BINARY)), (64, 64), 4).groups
    assert list(groups) == ["stem", "backbone", "neck", "RPN", "ROI head"]
    assert groups["stem"].params_1bit == groups["ROI head"].params_1bit == 0
    # Two 3x3 convolutions of 8 channels a level, and one of a level's channels in the RPN.
    assert groups["neck"].params_1bit == 9 * 8 * (6 + 8 + 10) + 3 * 9 * 8 * 8
    assert groups["RPN"].params_1bit == 9 * 8 * 8


def test_twice_the_proposals_double_the_roi_head_alone():
    once, twice = (count_costs(build(rcnn_cfg()), (64, 64), n).groups for n in (5, 10))
    assert twice["ROI head"].macs_real == 2 * once["ROI head"].macs_real
    assert {k: v for k, v in once.items() if k != "ROI head"} == {
        k: v for k, v in twice.items() if k != "ROI head"
    }


def test_a_mask_head_is_named_instead_of_counted():
    plain = count_costs(build(rcnn_cfg()), (64, 64), 4)
    masks = count_costs(build(rcnn_cfg(MODEL__MASK_ON=True)), (64, 64), 4)
    assert masks.total == plain.total
    assert masks.uncounted
    assert all(name.startswith("roi_heads.mask_head.") for name in masks.uncounted)


def test_the_detector_stays_as_it_was():
    detector = build(rcnn_cfg(**BINARY)).train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    count_costs(detector, (50, 70), 4)
    assert all(module.training for module in detector.modules())
    assert all(torch.equal(before[k], v) for k, v in detector.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in detector.modules())


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="A Linear cannot be counted: MODEL.META_ARCHITECTURE"):
        count_costs(nn.Linear(1, 1), (64, 64))
    with pytest.raises(ValueError, match="does not run at 5x7 pixels: .*[Kk]ernel size"):
        count_costs(Detector(nn.Conv2d(4, 8, 3), kernel_size=9), (5, 7))
    for size, proposals in (((0, 64), 4), ((64, 64), 0)):
        with pytest.raises(ValueError, match="must be positive"):
            count_costs(detector_of(), size, proposals)

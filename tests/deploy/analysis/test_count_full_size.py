"""Detectors in full size: numbers of published architectures, 20 classes, within 1 %."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from distill import add_distill_config
from distill.deploy.analysis import Costs, count_costs

VOC = Path(__file__).parents[3] / "configs" / "voc"
BINARY = (
    *("MODEL.BACKBONE.NAME", "build_binary_resnet_fpn_backbone"),
    *("MODEL.RPN.HEAD_NAME", "BinaryRPNHead"),
)


def count(config: str, size: tuple[int, int], *overrides: str | int) -> Costs:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.merge_from_file(str(VOC / config))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *overrides])
    return count_costs(build_model(cfg), size, 1000)


def count_resnet(depth: int, *overrides: str) -> Costs:
    resnet = ("MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
    return count("Base-RCNN-FPN.yaml", (600, 1000), *resnet, *overrides)


def assert_near(costs: Costs, size_mb: float, ops_g: float) -> None:
    assert (costs.total.size_mb, costs.total.ops_g) == pytest.approx((size_mb, ops_g), rel=0.01)


def test_1bit_resnet18_whose_size_is_that_of_its_real_heads():
    costs = count_resnet(18, *BINARY)
    assert_near(costs, 58.9, 17.2)
    assert costs.total.params_1bit == pytest.approx(16.15e6, rel=0.001)
    assert costs.total.params_real == pytest.approx(14.22e6, rel=0.01)
    assert costs.kinds["real fully connected layers"].size_mb > 0.95 * costs.total.size_mb


def test_1bit_resnet34():
    assert_near(count_resnet(34, *BINARY), 60.3, 17.6)


def test_real_resnet18():
    assert_near(count_resnet(18), 113.6, 96.3)


def test_real_resnet34():
    # Eight more blocks of two convolutions than ResNet-18: 1, 2, 4 and 1 of them in its stages.
    weights = [2 * blocks * 9 * c * c for blocks, c in ((1, 64), (2, 128), (4, 256), (1, 512))]
    cells = (150 * 250, 75 * 125, 38 * 63, 19 * 32)
    products = sum(w * n for w, n in zip(weights, cells, strict=True))
    assert_near(count_resnet(34), 113.6 + 4 * sum(weights) / 1e6, 96.3 + products / 1e9)


def test_1bit_ssd300():
    assert_near(count("ssd300_bivgg16.yaml", (300, 300)), 32.2, 3.3)


def test_real_ssd300():
    costs = count("ssd300_vgg16.yaml", (300, 300))
    assert_near(costs, 105.1, 31.4)
    assert list(costs.groups) == ["stem", "backbone", "neck", "head"]

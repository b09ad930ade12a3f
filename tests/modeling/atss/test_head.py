from __future__ import annotations

import pytest
import torch
from detectron2.layers import CycleBatchNormList, ShapeSpec
from torch import nn

from distill.modeling.atss import ATSSHead
from distill.modeling.dense.config import tower_arguments


def head(channels: int = 8, **changes) -> ATSSHead:
    torch.manual_seed(0)
    shapes = [ShapeSpec(channels=channels, stride=stride) for stride in (8, 16)]
    arguments = {"num_convs": 4, "norm": "GN", "prior_prob": 0.01, **changes}
    return ATSSHead(**tower_arguments(shapes, num_classes=3, **arguments))


@pytest.mark.parametrize(
    ("norm", "layer"), [("GN", nn.GroupNorm), ("BN", CycleBatchNormList), ("", nn.ReLU)]
)
def test_each_location_gets_scores_a_box_and_a_centerness(norm: str, layer: type) -> None:
    model = head(norm=norm, num_convs=2)
    assert isinstance(model.cls_subnet[1], layer)
    outputs = model([torch.rand(2, 8, 4, 6), torch.rand(2, 8, 2, 3)])
    assert [[tuple(x.shape[1:]) for x in levels] for levels in outputs] == [
        [(3, 4, 6), (3, 2, 3)],
        [(4, 4, 6), (4, 2, 3)],
        [(1, 4, 6), (1, 2, 3)],
    ]


def test_only_the_boxes_are_scaled_by_level() -> None:
    model, features = head(), [torch.rand(1, 8, 4, 4)] * 2
    with torch.no_grad():
        before = model(features)
        model.scales.copy_(torch.tensor([2.0, -1.0]))
        after = model(features)
    torch.testing.assert_close(after[1], [2 * before[1][0], -before[1][1]])
    torch.testing.assert_close((after[0], after[2]), (before[0], before[2]))

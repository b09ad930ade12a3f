from __future__ import annotations

import torch
from detectron2.modeling import build_backbone
from helpers import tiny


def test_the_two_coarsest_levels_are_made_of_p5() -> None:
    backbone = build_backbone(
        tiny.rcnn_cfg(
            MODEL__BACKBONE__NAME="build_resnet_fpn_p5_backbone",
            MODEL__RESNETS__DEPTH=18,
            MODEL__RESNETS__RES2_OUT_CHANNELS=64,
            MODEL__RESNETS__OUT_FEATURES=["res3", "res4", "res5"],
            MODEL__FPN__IN_FEATURES=["res3", "res4", "res5"],
        )
    ).eval()
    shapes = backbone.output_shape()
    strides = {name: shape.stride for name, shape in shapes.items()}
    assert strides == {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 128, 192))
        p6, p7 = backbone.top_block(maps["p5"])
    assert [x.shape[2:] for x in maps.values()] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    torch.testing.assert_close((maps["p6"], maps["p7"]), (p6, p7))

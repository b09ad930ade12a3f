"""A narrow 1-bit Faster R-CNN for images of 64 pixels."""

from __future__ import annotations

import pytest
from detectron2.config import CfgNode
from helpers.tiny import rcnn_cfg


@pytest.fixture
def cfg() -> CfgNode:
    return rcnn_cfg(
        MODEL__BACKBONE__NAME="build_binary_slim_fpn_backbone",
        MODEL__FPN__NORM="",
        MODEL__RPN__HEAD_NAME="BinaryRPNHead",
    )

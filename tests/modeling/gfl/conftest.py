from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import CfgNode
from helpers import tiny


@pytest.fixture
def gfl_cfg() -> Callable[..., CfgNode]:
    """Makes the config of a GFL of a few channels; changes as MODEL__GFL__NORM="GN"."""

    def make(**changes: Any) -> CfgNode:
        return tiny.rcnn_cfg(
            MODEL__META_ARCHITECTURE="GFL",
            MODEL__ANCHOR_GENERATOR__ASPECT_RATIOS=[[1.0]],
            MODEL__GFL__IN_FEATURES=("p2", "p3", "p4"),
            MODEL__GFL__NUM_CLASSES=tiny.NUM_CLASSES,
            MODEL__GFL__NUM_CONVS=1,
            **changes,
        )

    return make

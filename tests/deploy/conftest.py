"""Small 1-bit detectors to export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.config import CfgNode
from helpers.tiny import build, rcnn_cfg
from torch import Tensor, nn

from distill.deploy import export_packed


class Exported(NamedTuple):
    """A detector, its config and its packed file."""

    model: nn.Module
    cfg: CfgNode
    path: Path


def _binary_cfg(**changes: Any) -> CfgNode:
    return rcnn_cfg(
        MODEL__BACKBONE__NAME="build_binary_slim_fpn_backbone",
        MODEL__RPN__HEAD_NAME="BinaryRPNHead",
        **changes,
    )


def _trained(cfg: CfgNode) -> nn.Module:
    model = build(cfg)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor), alpha=0.1)
    return model.eval()


def _outputs(model: nn.Module, inputs: list[dict]) -> dict[str, Tensor]:
    with torch.no_grad():
        features = model.backbone(model.preprocess_image(inputs).tensor)
        detections = [x["instances"] for x in model(inputs)]
    assert all(len(x) for x in detections)
    return {
        **features,
        "boxes": torch.cat([x.pred_boxes.tensor for x in detections]),
        "scores": torch.cat([x.scores for x in detections]),
        "classes": torch.cat([x.pred_classes for x in detections]),
    }


@pytest.fixture
def binary_cfg() -> Callable[..., CfgNode]:
    """Makes the config of a tiny 1-bit Faster R-CNN; changes as in tiny.rcnn_cfg."""
    return _binary_cfg


@pytest.fixture
def trained() -> Callable[[CfgNode], nn.Module]:
    """Builds a detector none of whose numbers is what it was initialized with."""
    return _trained


@pytest.fixture
def outputs() -> Callable[[nn.Module, list[dict]], dict[str, Tensor]]:
    """Takes feature maps and detections from a detector."""
    return _outputs


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A tiny detector that was exported; not to be changed."""
    cfg = _binary_cfg()
    model = _trained(cfg)
    path = tmp_path_factory.mktemp("exported") / "tiny.safetensors"
    export_packed(model, cfg, path)
    return Exported(model, cfg, path)

"""Weights of revision cea3320, before the detectors had one base, fit by name, shape and order.

An optimizer's state knows parameters by their order alone.
"""

from __future__ import annotations

import hashlib

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from helpers.recipes import ROOT, load

# How many tensors a detector's state has, and the digest of their names and shapes.
STATES = {
    "coco/atss_R_50_FPN_1x": (320, "26b57406d2730a12"),
    "coco/gfl_R_50_FPN_1x": (318, "a3b1252026e1834f"),
    "coco/fcos_R_50_FPN_1x": (319, "1fb67e10f5aa5fe9"),
    "coco/ssd300_vgg16": (71, "6871d8f368ed10f7"),
    "coco/ssd300_bivgg16": (260, "1eb15aad4fd23694"),
    "coco/faster_rcnn_bir18": (243, "871337259d0cfcff"),
    "digits/atss_student": (155, "6d9b52cfaeb735ac"),
    "digits/gfl_student": (153, "76577944e41a247a"),
    "digits/fcos_student": (154, "cecd1dcd7477c513"),
    "digits/ssd_student": (59, "19b1577262628120"),
    "digits/ssd_student_1bit": (152, "dab94843edc9cc04"),
    "digits/faster_rcnn_bir18": (119, "bfae51d067b6a49f"),
}


@pytest.mark.parametrize("name", STATES)
def test_the_state_of_a_detector_is_named_as_ever(name: str) -> None:
    cfg = load(ROOT / "configs" / f"{name}.yaml")
    cfg.MODEL.DEVICE = "cpu"
    with torch.device("meta"):
        state = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).state_dict()
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert (len(state), hashlib.sha256(lines.encode()).hexdigest()[:16]) == STATES[name]

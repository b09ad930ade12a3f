"""Weights of revision cea3320, before the detectors had one base, fit by name, shape and order.

An optimizer's state knows parameters by their order alone.
"""

from __future__ import annotations

import hashlib

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from helpers.recipes import ROOT, load

# How many tensors a detector's state has, and the digest of their names and shapes. Counters of
# batches are left out: frozen normalization has them in official Detectron2 main only.
STATES = {
    "coco/atss_R_50_FPN_1x": (320, "26b57406d2730a12"),
    "coco/gfl_R_50_FPN_1x": (318, "a3b1252026e1834f"),
    "coco/fcos_R_50_FPN_1x": (319, "1fb67e10f5aa5fe9"),
    "coco/ssd300_vgg16": (71, "6871d8f368ed10f7"),
    "coco/ssd300_bivgg16": (238, "cdf1e8c1aa341e23"),
    "coco/faster_rcnn_bir18": (228, "a59b004a6d6a1ef5"),
    "digits/atss_student": (127, "dbfeba7a5e2b7e73"),
    "digits/gfl_student": (125, "5e2220d9929f3b2d"),
    "digits/fcos_student": (126, "1a238b9bc2524826"),
    "digits/ssd_student": (52, "c616b61ccabbcca4"),
    "digits/ssd_student_1bit": (137, "dfd524b220c53cbb"),
    "digits/faster_rcnn_bir18": (106, "a79344e0c7d05396"),
}


@pytest.mark.parametrize("name", STATES)
def test_the_state_of_a_detector_is_named_as_ever(name: str) -> None:
    cfg = load(ROOT / "configs" / f"{name}.yaml")
    cfg.MODEL.DEVICE = "cpu"
    with torch.device("meta"):
        state = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).state_dict()
    shapes = {k: tuple(x.shape) for k, x in state.items() if not k.endswith("num_batches_tracked")}
    lines = "\n".join(f"{key} {shape}" for key, shape in shapes.items())
    assert (len(shapes), hashlib.sha256(lines.encode()).hexdigest()[:16]) == STATES[name]

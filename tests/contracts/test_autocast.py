"""Every detector trains in bfloat16, and its losses are float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import tiny, tiny_dense
from torch import nn

GIOU = {"MODEL__RPN__BBOX_REG_LOSS_TYPE": "giou", "MODEL__ROI_BOX_HEAD__BBOX_REG_LOSS_TYPE": "giou"}
DETECTORS: dict[str, Callable[[], nn.Module]] = {
    **tiny_dense.DENSE,
    "fcos": lambda: tiny_dense.lively(tiny.build(tiny_dense.fcos_cfg())),
    "retinanet_giou": lambda: tiny_dense.retinanet(MODEL__RETINANET__BBOX_REG_LOSS_TYPE="giou"),
    "rcnn": lambda: tiny.build(tiny.rcnn_cfg()),
    "rcnn_giou": lambda: tiny.build(tiny.rcnn_cfg(**GIOU)),
    "mask_rcnn": lambda: tiny.build(tiny.rcnn_cfg(MODEL__MASK_ON=True)),
    "c4": lambda: tiny.build(tiny.c4_cfg()),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_trains_under_autocast(name: str) -> None:
    model = DETECTORS[name]().train()
    for inputs in (tiny.batch(), tiny.empty_batch()):
        with torch.autocast("cpu", torch.bfloat16):
            losses = tiny.step(model, inputs)
        low = [key for key, x in losses.items() if x.dtype != torch.float32]
        # Detectron2's is 0 times a map where no proposal is foreground.
        assert low in ([], ["loss_mask"]) and all(losses[key] == 0 for key in low)
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        assert tiny.without_gradient(model) == []

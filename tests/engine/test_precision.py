from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg

from distill.config import add_distill_config
from distill.engine.precision import autocast_dtype


def _config(device: str, precision: str, enabled: bool = True) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.MODEL.DEVICE = device
    cfg.SOLVER.AMP.ENABLED = enabled
    cfg.SOLVER.AMP.PRECISION = precision
    return cfg


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "", torch.bfloat16),
        ("cpu", "bfloat16", torch.bfloat16),
        ("cuda", "", torch.float16),
        ("cuda:1", "bfloat16", torch.bfloat16),
        ("cuda", "float16", torch.float16),
    ],
)
def test_the_precision_follows_config_and_device(device, precision, expected):
    assert autocast_dtype(_config(device, precision)) == expected


def test_without_amp_the_precision_is_not_read():
    assert autocast_dtype(_config("cpu", "float16", enabled=False)) is None


@pytest.mark.parametrize(
    ("precision", "message"), [("float16", "float16 needs a GPU"), ("half", "'half' is unknown")]
)
def test_a_precision_that_can_not_be_is_refused(precision, message):
    with pytest.raises(ValueError, match=message):
        autocast_dtype(_config("cpu", precision))

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from distill.config import add_distill_config
from distill.engine.solver import build_optimizer


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.SOLVER.BASE_LR = 0.5
    cfg.SOLVER.WEIGHT_DECAY = 0.05
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    return cfg


def _model() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    model[2].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("name", "expected"), [("SGD", torch.optim.SGD), ("AdamW", torch.optim.AdamW)]
)
def test_norms_have_a_decay_of_their_own_and_frozen_weights_none(cfg, name, expected):
    cfg.SOLVER.OPTIMIZER = name
    model = _model()
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, expected)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decay == {
        id(model[0].weight): 0.05,
        id(model[0].bias): 0.05,
        id(model[1].weight): 0.0,
        id(model[1].bias): 0.0,
    }


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_gradients_are_clipped_where_the_config_says(cfg, name):
    cfg.SOLVER.OPTIMIZER = name
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.25
    weight = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(cfg, weight)
    weight.weight.grad = torch.full((1, 1), 9.0)
    optimizer.step()
    assert weight.weight.grad.item() == 0.25


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_norm_of_all_gradients_together_is_clipped_where_the_config_says(cfg, name):
    cfg.SOLVER.OPTIMIZER = name
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 2.5
    model = nn.Linear(1, 1)
    optimizer = build_optimizer(cfg, model)
    model.weight.grad, model.bias.grad = torch.full((1, 1), 3.0), torch.full((1,), 4.0)
    optimizer.step()
    # Of length 5, to half of it, where each alone would have stayed or become 2.5.
    assert model.weight.grad.item() == pytest.approx(1.5, rel=1e-4)
    assert model.bias.grad.item() == pytest.approx(2.0, rel=1e-4)


def test_an_unknown_optimizer_is_refused(cfg):
    cfg.SOLVER.OPTIMIZER = "adam"
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER 'adam' is unknown"):
        build_optimizer(cfg, _model())

"""The optimizer and the schedule that a config names."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, WarmupParamScheduler
from detectron2.solver import build_lr_scheduler as build_detectron2_scheduler
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import one_of
from distill.utils.trainer_keys import only_trainer_acts_on

__all__ = ["build_lr_scheduler", "build_optimizer"]

_ADAPTIVE = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


@defines_keys
def _add_solver_keys(cfg: CfgNode) -> None:
    # SGD, Adam, or AdamW (whose weight decay is the decoupled one).
    cfg.SOLVER.OPTIMIZER = "SGD"
    limit(cfg.SOLVER, OPTIMIZER=one_of("SGD", *_ADAPTIVE))
    only_trainer_acts_on({"SOLVER.OPTIMIZER": "SGD"})


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Builds Detectron2's SGD, or Adam or AdamW with the same parameter groups and clipping.

    Beside Detectron2's two, SOLVER.CLIP_GRADIENTS.CLIP_TYPE may be "full_model": the norm that is
    clipped is that of all gradients together instead of each parameter's own.

    Args:
        cfg: the config; SOLVER is read.
        model: the module to train; parameters without gradient are left out.

    Raises:
        ValueError: if SOLVER.OPTIMIZER is unknown.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if clip.ENABLED and clip.CLIP_TYPE == "full_model":
        unclipped = cfg.clone()
        unclipped.defrost()
        unclipped.SOLVER.CLIP_GRADIENTS.ENABLED = False
        optimizer = build_optimizer(unclipped, model)
        # Runs within step(), so after a gradient scaler has undone its scale.
        optimizer.register_step_pre_hook(partial(_clip_full_model, clip.CLIP_VALUE, clip.NORM_TYPE))
        return optimizer
    name = cfg.SOLVER.OPTIMIZER
    if name == "SGD":
        return build_sgd(cfg, model)
    if name not in _ADAPTIVE:
        raise ValueError(f"SOLVER.OPTIMIZER {name!r} is unknown: use SGD, Adam or AdamW.")
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    optimizer_class = maybe_add_gradient_clipping(cfg, _ADAPTIVE[name])
    return optimizer_class(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)


def _clip_full_model(
    limit: float, norm_type: float, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(parameters, limit, norm_type)


def build_lr_scheduler(
    cfg: CfgNode, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler:
    """Builds one of Detectron2's schedules, or WarmupLinearLR, which falls linearly to 0.

    Args:
        cfg: the config; SOLVER is read.
        optimizer: whose learning rates follow the schedule.

    Raises:
        ValueError: if SOLVER.LR_SCHEDULER_NAME is unknown.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupLinearLR":
        return build_detectron2_scheduler(cfg, optimizer)
    schedule = WarmupParamScheduler(
        LinearParamScheduler(1, 0),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=solver.MAX_ITER)

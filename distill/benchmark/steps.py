"""What is measured: one step of a variant, as a function without arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.utils.events import EventStorage
from torch import nn

from distill.config import student_config
from distill.engine import TrainLoop, build_optimizer
from distill.engine.precision import autocast_dtype
from distill.seeding import seed_all
from distill.teacher import FrozenTeacher

__all__ = ["VARIANTS", "Step", "build_step"]


@dataclass(frozen=True)
class Step:
    """One step of a variant: call it.

    Attributes:
        model: the module that it runs.
        run: runs it once.
    """

    model: nn.Module
    run: Callable[[], None]

    def __call__(self) -> None:
        """Runs the step once."""
        self.run()


# Variants by name, with their overrides of the config. The first is a training step of the student
# alone, the teacher's two are its inference, whole and up to the feature maps.
VARIANTS: dict[str, tuple[Any, ...]] = {
    "student": ("DISTILL.METHODS", ()),
    "teacher": (),
    "teacher_backbone": (),
    # The method's default adapters, then the small ones, whichever the config names.
    "distilled": ("DISTILL.TADF.ADAPTER", "conv3x3"),
    "distilled_conv1x1": ("DISTILL.TADF.ADAPTER", "conv1x1"),
}


def build_step(variant: str, cfg: CfgNode, batch: list[dict[str, Any]]) -> Step:
    """Builds one variant's model and the function that runs one step of it.

    A step of the student, alone or distilled, is the trainer's: forward, backward, optimizer. The
    teacher's is inference as it would be evaluated. Every step of every variant samples the same
    proposals, and nothing is learnt, so that the work stays the same.

    Args:
        variant: a name of VARIANTS.
        cfg: the pair's config.
        batch: the images of every step.
    """
    seed_all(0)
    if variant.startswith("teacher"):
        teacher = FrozenTeacher.from_config(cfg)
        _calm(teacher.model)
        whole = variant == "teacher"
        run = (lambda: _infer(teacher, batch)) if whole else lambda: teacher.signals(batch).features
        return Step(teacher.model, run)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(VARIANTS[variant]))
    model = build_model(cfg if cfg.DISTILL.METHODS else student_config(cfg))
    _calm(model)
    if cfg.DISTILL.METHODS:
        _calm(model.teacher.model)
    return _training_step(model, cfg, batch)


def _infer(teacher: FrozenTeacher, batch: list[dict[str, Any]]) -> None:
    with torch.no_grad(), teacher.autocast(teacher.model.device.type):
        teacher.model(batch)


def _training_step(model: nn.Module, cfg: CfgNode, batch: list[dict[str, Any]]) -> Step:
    optimizer = build_optimizer(cfg, model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    dtype = autocast_dtype(cfg)
    loop = TrainLoop(model, itertools.repeat(batch), optimizer, seed=0, dtype=dtype)
    loop.iter = 0
    storage = EventStorage()

    def run() -> None:
        with storage:
            loop.run_step()

    return Step(model, run)


def _calm(model: nn.Module) -> None:
    """Damps the residual branches of a ResNet, as training would.

    Under Detectron2's frozen normalisation random branches add up to activations without bounds,
    hence to useless proposals or none.
    """
    for module in model.modules():
        if isinstance(module, BottleneckBlock):
            module.conv3.norm.weight.data.fill_(0.2)

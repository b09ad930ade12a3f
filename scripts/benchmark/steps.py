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

from benchmark.pairs import UNDISTILLED, Pair
from distill.build import build_teacher
from distill.config import student_config
from distill.engine import TrainLoop, build_optimizer
from distill.engine.precision import autocast_dtype
from distill.methods import Method, MethodOutput
from distill.methods.schedule import Schedule
from distill.utils.seeding import seed_all
from distill.utils.trainer_keys import acts_on_trainer_keys
from distill.views.student import StudentSignals
from distill.views.teacher import FrozenTeacher, TeacherSignals

__all__ = ["Step", "build_step"]


@dataclass(frozen=True)
class Step:
    """One step of a variant: call it.

    Attributes:
        model: the module that it runs.
        run: runs it once.
        storage: where a training step writes what it logs.
    """

    model: nn.Module
    run: Callable[[], None]
    storage: EventStorage | None = None

    def __call__(self) -> None:
        """Runs the step once."""
        self.run()

    def counts(self) -> dict[str, float]:
        """How many of what the distillation methods saw in the last step, by name in the log."""
        latest = self.storage.latest() if self.storage else {}
        names = tuple(
            f"{method.name.lower()}/num_" for method in getattr(self.model, "methods", ())
        )
        return {name: value for name, (value, _) in latest.items() if name.startswith(names)}


def build_step(variant: str, pair: Pair, device: str) -> Step:
    """Builds one variant's model and the function that runs one step of it.

    A step of the student, alone or distilled, is the trainer's: forward, backward, optimizer. The
    teacher's is inference as it would be evaluated. Every step of every variant samples the same
    proposals, and nothing is learned, so that the work stays the same.

    Args:
        variant: one of the pair's variants.
        pair: the pair of detectors.
        device: "cpu" or a CUDA device.

    Raises:
        ValueError, FileNotFoundError: if the config or an override is wrong.
    """
    cfg = pair.config(variant, device)
    batch = pair.batch(cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    seed_all(0)
    if variant.startswith("teacher"):
        teacher = build_teacher(cfg)
        _calm(teacher.model)
        whole = variant == "teacher"
        run = (lambda: _infer(teacher, batch)) if whole else lambda: teacher.signals(batch).features
        return Step(teacher.model, run)
    # Its optimizer and precision are the Trainer's, see below.
    with acts_on_trainer_keys():
        model = build_model(cfg if cfg.DISTILL.METHODS else student_config(cfg))
    _calm(model)
    if cfg.DISTILL.METHODS:
        _calm(model.teacher.model)
    if variant == UNDISTILLED:
        model.distill = nn.ModuleDict({UNDISTILLED: _TeacherAlone(Schedule())})
    return _training_step(model, cfg, batch)


class _TeacherAlone(Method):
    """Runs the teacher up to its dense head, and compares nothing."""

    name = UNDISTILLED

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """Computes the teacher's predictions."""
        list(teacher.head_outputs)
        return MethodOutput({})


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

    return Step(model, run, storage)


def _calm(model: nn.Module) -> None:
    """Damps the residual branches of a ResNet, as training would.

    Under Detectron2's frozen normalization random branches add up to activations without bounds,
    hence to useless proposals or none.
    """
    for module in model.modules():
        if isinstance(module, BottleneckBlock):
            module.conv3.norm.weight.data.fill_(0.2)

"""Hooks that Detectron2 lacks: checkpoints of the student, repeatable batch statistics."""

from __future__ import annotations

import torch
from detectron2.engine import HookBase, hooks
from torch import nn

from distill.engine.loop import NORMALIZER
from distill.utils.checkpoint import SafeCheckpointer

__all__ = ["RepeatablePreciseBN", "StudentCheckpoints", "plain_weights"]


class StudentCheckpoints(HookBase):
    """Saves a resumable checkpoint every ``period`` iterations and after the last one.

    After the last iteration the student's weights alone are saved too, as ``model_final.pth``,
    which any Detectron2 loads; resuming goes on from the last resumable checkpoint.
    """

    def __init__(self, checkpointer: SafeCheckpointer, student: nn.Module, period: int) -> None:
        """Notes what to save.

        Args:
            checkpointer: writes the checkpoints.
            student: the detector whose weights model_final.pth holds.
            period: iterations between two checkpoints; 0 or less saves after the last one only.
        """
        self.checkpointer = checkpointer
        self.student = student
        self.period = period

    def after_step(self) -> None:
        """Saves what is due."""
        iteration = self.trainer.iter
        is_last = iteration + 1 >= self.trainer.max_iter
        if is_last:
            # Before the resumable one: a run killed in between goes on and writes both again.
            self.checkpointer.write("model_final", {"model": plain_weights(self.student)})
        if is_last or (self.period > 0 and (iteration + 1) % self.period == 0):
            self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)


class RepeatablePreciseBN(hooks.PreciseBN):
    """Detectron2's PreciseBN, always on the same images, so that resuming changes nothing."""

    def update_stats(self) -> None:
        """Recomputes the statistics from the loader's first batches, and changes nothing else."""
        self._data_iter = None
        # Batches that do not train must not move this running mean.
        normalizer = vars(self._model).get(NORMALIZER)
        super().update_stats()
        if normalizer is not None:
            setattr(self._model, NORMALIZER, normalizer)


def plain_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns a module's state_dict on the CPU."""
    weights = model.state_dict()
    for key, value in weights.items():
        weights[key] = value.cpu()
    return weights

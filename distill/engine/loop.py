"""One training step: repeatable, in any precision, and stopped by a loss that is not finite."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from distill.distiller import Distiller
from distill.utils.seeding import Stream, derive_seed, seed_all

__all__ = ["TrainLoop"]


class TrainLoop(SimpleTrainer):
    """Detectron2's simple trainer with a random state of its own for every iteration.

    A step depends on the weights, the batch, the run seed, the iteration and the rank, and on
    nothing that ran before it, so that a resumed run repeats an uninterrupted one.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Sets the model to training mode.

        Args:
            model: returns a dict of scalar losses, the same names on every rank.
            data_loader: yields batches, lists of Detectron2's model inputs.
            optimizer: updates the model.
            seed: the run seed.
            dtype: autocast's type, or None for float32. float16 scales the gradients.
        """
        super().__init__(model, data_loader, optimizer)
        self.seed = seed
        self.dtype = dtype
        self.device = next(model.parameters()).device
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)

    def run_step(self) -> None:
        """Trains on one batch.

        Raises:
            FloatingPointError: on all ranks, before the weights change, if a loss of any rank is
                infinite or not a number.
        """
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        seed_all(derive_seed(self.seed, Stream.STEP, self.iter, comm.get_rank()))
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)
        with autocast:
            losses = self.model(data)
            total = sum(losses.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        getattr(self, "after_backward", lambda: None)()

        # Read only now: the transfer would make the GPU wait between forward and backward.
        values = self._gather_losses(losses, data_time)
        self._check_finite(list(losses), values[:, :-1], data)
        self._write_losses(list(losses), values)

        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _gather_losses(self, losses: Mapping[str, torch.Tensor], data_time: float) -> np.ndarray:
        """Returns (ranks, terms + 1) values, the last of a row being the data time in seconds."""
        terms = [term.detach().float() for term in losses.values()]
        row = torch.stack([*terms, terms[0].new_tensor(0.0).fill_(data_time)])
        if comm.get_world_size() == 1:
            return row[None].cpu().numpy()
        rows = [torch.empty_like(row) for _ in range(comm.get_world_size())]
        torch.distributed.all_gather(rows, row)
        return torch.stack(rows).cpu().numpy()

    def _check_finite(self, names: list[str], values: np.ndarray, data: list[dict]) -> None:
        finite = np.isfinite(values)
        if finite.all():
            return
        files = [str(sample.get("file_name", sample.get("image_id"))) for sample in data]
        files_by_rank = comm.all_gather(files)
        bad_ranks = np.flatnonzero(~finite.all(axis=1))
        bad_terms = [
            f"{name} ({column[~np.isfinite(column)][0]})"
            for name, column in zip(names, values.T, strict=True)
            if not np.isfinite(column).all()
        ]
        images = ", ".join(name for rank in bad_ranks for name in files_by_rank[rank])
        raise FloatingPointError(
            f"{', '.join(bad_terms)} is not finite at iteration {self.iter} on the images "
            f"{images}; the weights were not updated. {self._advice(names, finite)}"
        )

    def _advice(self, names: list[str], finite: np.ndarray) -> str:
        """Where to look, given which terms (ranks, terms) are finite."""
        model = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        methods = model.methods if isinstance(model, Distiller) else ()
        prefixes = tuple(f"loss_{method.name.lower()}" for method in methods)
        bad = [name for name, column in zip(names, finite.T, strict=True) if not column.all()]
        if prefixes and all(name.startswith(prefixes) for name in bad):
            return (
                "The student's own losses are finite: check what the teacher predicts "
                "(DISTILL.TEACHER.WEIGHTS and PRECISION), or lower the method's weight."
            )
        return "Look at these images' annotations, or lower SOLVER.BASE_LR or the method's weight."

    def _write_losses(self, names: list[str], values: np.ndarray) -> None:
        """Writes means over ranks, as Detectron2 does, and the longest wait for data."""
        if not comm.is_main_process():
            return
        storage = get_event_storage()
        storage.put_scalar("data_time", float(values[:, -1].max()))
        means = values[:, :-1].mean(axis=0, dtype=np.float64).tolist()
        storage.put_scalar("total_loss", sum(means))
        if len(names) > 1:
            storage.put_scalars(**dict(zip(names, means, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, gradient scaler and iteration."""
        state = super().state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`; a float32 run may go on in float16 and back."""
        super().load_state_dict(state_dict)
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])

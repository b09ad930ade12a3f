"""One training step: repeatable, in any precision, and stopped by what is not finite."""

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

from distill.distiller import student_of
from distill.engine.finite import check_gradients, check_losses, gradient_norm
from distill.utils.seeding import Stream, derive_seed, seed_all

__all__ = ["NORMALIZER", "TrainLoop"]

NORMALIZER = "loss_normalizer"


class TrainLoop(SimpleTrainer):
    """Detectron2's simple trainer with a random state of its own for every iteration.

    A step depends on the weights, the batch, the run seed, the iteration and the rank, and on
    nothing that ran before it, so that a resumed run repeats an uninterrupted one.

    Attributes:
        files: the images of the running step; none while they are loaded or after the step.
        is_loading: whether the running step waits for its images.
        requested_signal: number of the signal that asks this rank to stop; 0 for none.
        agreed_signal: the same of any rank, known to all of them after a step.
        normalizers: see :attr:`normalizer`; of every rank after the last step.
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
        self.files: list[str] = []
        self.is_loading = False
        self.normalizers: list[float] = []
        self.requested_signal = self.agreed_signal = 0
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)

    def run_step(self) -> None:
        """Trains on one batch.

        Raises:
            FloatingPointError: on all ranks, before the weights change, if a loss or a gradient of
                any rank is infinite or not a number.
        """
        start = time.perf_counter()
        self.is_loading = True
        data = next(self._data_loader_iter)
        self.is_loading = False
        data_time = time.perf_counter() - start
        self.files = [str(sample.get("file_name", sample.get("image_id"))) for sample in data]

        seed_all(derive_seed(self.seed, Stream.STEP, self.iter, comm.get_rank()))
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)
        with autocast:
            losses = self.model(data)
            total = sum(losses.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        getattr(self, "after_backward", lambda: None)()

        # Read only now: the transfer would make the GPU wait between forward and backward.
        terms, norms, data_times = self._gather(losses, data_time)
        check_losses(self.model, list(losses), terms, self.iter, self.files)
        if not np.isfinite(norms).all():
            scale = self.grad_scaler.get_scale()
            check_gradients(self.model, norms, self.iter, self.files, scale)
        self._write_losses(list(losses), terms, data_times)

        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.files = []

    def _gather(
        self, losses: Mapping[str, torch.Tensor], data_time: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of all ranks (ranks, terms) losses, (ranks,) norms of gradients and seconds for data.

        It is the one transfer of a step; with it all ranks learn of a signal that one received.
        """
        terms = [term.detach().float() for term in losses.values()]
        # Filled, not copied: a copy would wait for the device.
        known = (data_time, self.requested_signal, *_exact_parts(self.normalizer))
        filled = [terms[0].new_full((), x) for x in known]
        row = torch.stack([*terms, gradient_norm(self.model), *filled])
        rows = [row]
        if comm.get_world_size() > 1:
            rows = [torch.empty_like(row) for _ in range(comm.get_world_size())]
            torch.distributed.all_gather(rows, row)
        values = torch.stack(rows).cpu().numpy()
        norms, data_times, signals, *parts = values[:, len(terms) :].T
        self.agreed_signal = int(signals.max())
        self.normalizers = np.sum(parts, axis=0, dtype=np.float64).tolist()
        return values[:, : len(terms)], norms, data_times

    @property
    def normalizer(self) -> float:
        """What RetinaNet and FCOS divide by: a running mean, which they keep in an attribute."""
        return vars(self._student).get(NORMALIZER, 0.0)

    @normalizer.setter
    def normalizer(self, value: float) -> None:
        setattr(self._student, NORMALIZER, value)

    @property
    def _student(self) -> nn.Module:
        model = self.model
        return student_of(model.module if isinstance(model, DistributedDataParallel) else model)

    def _write_losses(self, names: list[str], terms: np.ndarray, data_times: np.ndarray) -> None:
        """Writes means over ranks, as Detectron2 does, and the longest wait for data."""
        if not comm.is_main_process():
            return
        storage = get_event_storage()
        storage.put_scalar("data_time", float(data_times.max()))
        means = terms.mean(axis=0, dtype=np.float64).tolist()
        storage.put_scalar("total_loss", sum(means))
        if len(names) > 1:
            storage.put_scalars(**dict(zip(names, means, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, gradient scaler, iteration, and the losses' normalizers of all ranks."""
        state = super().state_dict()
        if self.normalizer:
            state[NORMALIZER] = self.normalizers or [self.normalizer]
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`; a float32 run may go on in float16 and back."""
        super().load_state_dict(state_dict)
        if known := state_dict.get(NORMALIZER):
            own = comm.get_rank() if len(known) == comm.get_world_size() else 0
            self.normalizer = known[own]
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def _exact_parts(value: float) -> list[float]:
    """Three float32 numbers whose sum in float64 is a value of that type."""
    parts = []
    for _ in range(3):
        parts.append(float(np.float32(value)))
        value -= parts[-1]
    return parts

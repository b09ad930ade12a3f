"""The training loop: a signal ends it with a checkpoint, and an error with a sentence."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from distill.engine.finite import list_files
from distill.engine.loop import TrainLoop
from distill.engine.results import RunResults
from distill.engine.signals import Interrupted, StopSignals
from distill.utils.checkpoint import SafeCheckpointer
from distill.utils.distributed import is_echo
from distill.utils.wording import sentence_of

__all__ = ["InterruptibleTrainer", "StopOnSignal", "TrainingError"]

_logger = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """What went wrong in a training, in one sentence with iteration and images."""


class StopOnSignal(HookBase):
    """Ends the training on all ranks once they know of a signal; stands before the evaluation."""

    def after_step(self) -> None:
        """Looks whether there is one."""
        if number := self.trainer._trainer.agreed_signal:
            raise Interrupted(number)


class InterruptibleTrainer(DefaultTrainer):
    """A trainer whose steps are those of a :class:`TrainLoop`.

    On SIGTERM or SIGINT it ends after the running iteration, or breaks a running evaluation, and
    saves a checkpoint from which ``--resume`` goes on exactly.
    """

    _trainer: TrainLoop
    checkpointer: SafeCheckpointer
    _last_eval_results: dict[str, Any]

    def train(self) -> dict[str, Any]:
        """Trains up to SOLVER.MAX_ITER; returns the final evaluation's results.

        Raises:
            Interrupted: on a signal, after a checkpoint was saved.
            FloatingPointError: if a loss or a gradient is not finite.
            TrainingError: one sentence, if anything else goes wrong.
        """
        _logger.info("Starting training from iteration %d.", self.start_iter)
        self.iter = self.start_iter
        with (
            StopSignals(self._trainer) as self._signals,
            EventStorage(self.start_iter) as self.storage,
        ):
            try:
                self._iterate()
            except Interrupted as stop:
                self._close()
                self._save_for(stop)
                raise
            except Exception as error:
                self._close()
                end = self._ended_by(error)
                if end is error:
                    raise
                raise end from error
        if len(self.cfg.TEST.EXPECTED_RESULTS) and comm.is_main_process():
            verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def _iterate(self) -> None:
        self.before_train()
        for iteration in range(self.start_iter, self.max_iter):
            self.iter = iteration
            self.before_step()
            self.run_step()
            self.after_step()
        # Hooks tell by this that training is complete.
        self.iter += 1
        self.after_train()

    def _close(self) -> None:
        """Lets hooks close their files; what only belongs to a complete training is left out."""
        for hook in self._hooks:
            if not isinstance(hook, (hooks.EvalHook, RunResults)):
                try:
                    hook.after_train()
                except Exception as error:  # Such as a full disk: what came first is to be told.
                    _logger.debug("%s could not end: %s", type(hook).__name__, error)

    def _save_for(self, stop: Interrupted) -> None:
        """Saves a checkpoint of the last complete iteration, unless there is one."""
        self._signals.ignored = comm.get_world_size() > 1
        iteration = min(self.iter, self.max_iter - 1)
        if comm.is_main_process() and iteration >= self.start_iter:
            name = f"model_{iteration:07d}"
            if not self.checkpointer.get_checkpoint_file().endswith(f"{name}.pth"):
                self.checkpointer.save(name, iteration=iteration)
            _logger.warning(
                "%s ended the run after iteration %d, which %s holds: the same command with "
                "--resume goes on exactly.",
                *(stop.signal.name, iteration, f"{name}.pth"),
            )
        if self._trainer.agreed_signal:
            comm.synchronize()

    def _ended_by(self, error: Exception) -> BaseException:
        """What to raise for an error of a step or a hook."""
        if self._signals.received:
            stop = Interrupted(self._signals.received)
            if self._trainer.is_loading:  # The signal ended the loader's workers too.
                self.iter -= 1
                self._trainer.iter = self.iter
                self._save_for(stop)
                return stop
            if is_echo(error):
                return stop
        if isinstance(error, (FloatingPointError, TrainingError)):
            return error
        files = self._trainer.files
        on = f" on the images {list_files(files)}" if files else ""
        return TrainingError(f"Iteration {self.iter} failed{on}: {sentence_of(error)}.")

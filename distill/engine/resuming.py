"""What a run starts from: MODEL.WEIGHTS, or its last checkpoint, if it is of the same run still."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.engine.run_record import RunRecord, is_record, tell_changes
from distill.utils.checkpoint import CheckpointError, SafeCheckpointer
from distill.utils.coverage import check_complete, check_fit, measure_coverage
from distill.utils.files import first_line
from distill.utils.wording import some_of

__all__ = ["last_checkpoint", "load_for_evaluation", "load_start", "resume_run"]

_logger = logging.getLogger(__name__)
_WEIGHTS = "MODEL.WEIGHTS"


def load_for_evaluation(checkpointer: SafeCheckpointer, weights: str, *, resume: bool) -> None:
    """Loads what is evaluated, which must fill the detector.

    Args:
        checkpointer: of the detector and the run directory.
        weights: MODEL.WEIGHTS.
        resume: take the run directory's last checkpoint instead, if there is one.

    Raises:
        ValueError, FileNotFoundError: one sentence, if there is none, or it is another detector's.
    """
    path = last_checkpoint(checkpointer) if resume and checkpointer.has_checkpoint() else weights
    checkpointer.load(path, checkpointables=[])
    found = measure_coverage(checkpointer.model, checkpointer.incompatible)
    check_complete(found, path, key=_WEIGHTS, config_key="--config-file", whose="detector's")


def load_start(checkpointer: SafeCheckpointer, weights: str) -> None:
    """Loads what a new run starts from.

    Args:
        checkpointer: of the model.
        weights: MODEL.WEIGHTS; "" leaves the model as it is.

    Raises:
        ValueError, FileNotFoundError: one sentence, if (almost) nothing of it fits the model.
    """
    checkpointer.load(weights, checkpointables=[])
    if weights:
        found = measure_coverage(checkpointer.model, checkpointer.incompatible)
        _logger.info("%s.", check_fit(found, weights, key=_WEIGHTS))


def last_checkpoint(checkpointer: SafeCheckpointer) -> str:
    """The file that a run directory names as its last checkpoint.

    Raises:
        FileNotFoundError: one sentence, if it names none that exists.
    """
    note = Path(checkpointer.save_dir, "last_checkpoint")
    name = note.read_bytes().decode(errors="replace").strip()
    path = os.path.join(checkpointer.save_dir, name)
    if name and os.path.isfile(path):
        return path
    said = f"names {name!r}, which does not exist" if name else "is empty"
    raise FileNotFoundError(f"{note} {said}: {_way_back(path)}.")


def _way_back(path: str) -> str:
    """What to do without the checkpoint that last_checkpoint names."""
    folder, name = os.path.split(path)
    others = sorted(x.name for x in Path(folder).glob("model_[0-9]*.pth") if x.name != name)
    earlier = f"write {others[-1]} into last_checkpoint to go on from there, or " if others else ""
    return f"{earlier}remove last_checkpoint to start anew"


def resume_run(
    checkpointer: SafeCheckpointer,
    record: RunRecord,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Continues from the last checkpoint, with the config's settings of optimizer and schedule.

    Args:
        checkpointer: of the model, the run directory and the "trainer".
        record: of the run that goes on.
        scheduler: its schedule.

    Raises:
        ValueError, FileNotFoundError: one sentence, if there is none, it is damaged, or is of a run
            that this one can't continue.
    """
    path = last_checkpoint(checkpointer)
    try:
        rest = checkpointer.load(path, checkpointables=[])
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).rstrip('.')}; {_way_back(path)}.") from error
    way = f"restore the run's own config, or start a new run from {path} in another OUTPUT_DIR"
    state, run = rest.get("trainer"), rest.get("run")
    _check_trainer(path, state, record.cfg.SOLVER.MAX_ITER)
    _check_model(path, checkpointer, way)
    optimizer = record.optimizer
    own = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    rates = list(scheduler.base_lrs)
    try:
        # Detectron2 0.6 keeps none, which the trainer says.
        if "_trainer" in state:
            _check_optimizer(path, record, run, state["_trainer"], way)
        checkpointer.checkpointables["trainer"].load_state_dict(state)
    except CheckpointError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise CheckpointError(
            f"The trainer's state in {path} is damaged or not one of this config's ({reason}): "
            f"{way}."
        ) from error
    # A rate, decay or momentum that was changed counts, as SOLVER.STEPS and MAX_ITER do.
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
    scheduler.base_lrs = rates
    # Of the schedules that Detectron2 has, the iteration is all the state.
    scheduler.last_epoch = state["iteration"] + 1
    if run:
        tell_changes(record.cfg, run["config"])


def _check_trainer(path: str, state: Any, max_iter: int) -> None:
    iteration = state.get("iteration") if isinstance(state, dict) else None
    if type(iteration) is not int or iteration < 0:
        raise CheckpointError(
            f"{path} has weights but no state of a training to resume: start without --resume and "
            "with it as MODEL.WEIGHTS, or name a checkpoint of the training in last_checkpoint."
        )
    if not isinstance(state.get("seed", 0), int):
        raise CheckpointError(f"{path} is damaged (its seed is no number): copy it again.")
    if iteration + 1 > max_iter:
        raise CheckpointError(
            f"{path} was written after {iteration + 1} iterations, more than "
            f"SOLVER.MAX_ITER {max_iter}: raise it, or evaluate the checkpoint with --eval-only."
        )


def _check_model(path: str, checkpointer: SafeCheckpointer, way: str) -> None:
    """Refuses a checkpoint that lacks anything of the model, the methods' own layers included."""
    found = checkpointer.incompatible
    lost = {*found.missing_keys, *(name for name, _, _ in found.incorrect_shapes)}
    counted = measure_coverage(checkpointer.model, found)
    lost = sorted({*counted.lost, *(name for name in lost if name.startswith("distill."))})
    if lost or counted.deeper:
        raise CheckpointError(
            f"--resume can't go on from {path}, whose model is another than the config's (lacking, "
            f"deeper or of another shape: {some_of(lost or counted.deeper)}); {way}."
        )


def _check_optimizer(
    path: str, record: RunRecord, run: dict[str, Any] | None, state: dict[str, Any], way: str
) -> None:
    """Refuses the state of another optimizer, or of one that trains other parameters.

    Args:
        path: the file.
        record: of this run.
        run: the file's; None in those of earlier releases.
        state: the file's state of the training loop, with the optimizer's.
        way: what to do.

    Raises:
        LookupError, TypeError, ValueError: if the state is no optimizer's.
    """
    own, found = record.state_dict(), state["optimizer"]["param_groups"]
    if run is not None and not is_record(run):
        raise ValueError("its record of the run is damaged")
    kind = run["optimizer"] if run else ("Adam" if "betas" in found[0] else "SGD")
    now = own["optimizer"]
    # Without a record, Adam and AdamW look the same.
    if kind != now and (run or "SGD" in (kind, now)):
        what = f"{kind} in place of SOLVER.OPTIMIZER {now}"
    elif run and run["parameters"] != own["parameters"]:
        names = [{name for group in x["parameters"] for name in group} for x in (run, own)]
        changed = some_of(sorted(names[0] ^ names[1])) or "in other groups"
        what = f"other parameters ({changed}): MODEL, DISTILL.METHODS or what is frozen differs"
    elif [len(group["params"]) for group in found] != [len(x) for x in own["parameters"]]:
        what = "another number of parameters: MODEL, DISTILL.METHODS or what is frozen differs"
    else:
        return _check_moments(record.optimizer, state["optimizer"]["state"])
    raise CheckpointError(f"--resume can't go on from {path}, which trained {what}; {way}.")


def _check_moments(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Refuses moments of other shapes than the parameters', which would fail or go unnoticed."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for place, moments in state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameters[place].shape:
                raise ValueError(f"{name} of parameter {place} has another shape")
            if not isinstance(value, Tensor | int | float | None):
                raise ValueError(f"{name} of parameter {place} is no number")
            if value is not None and not torch.as_tensor(value).isfinite().all():
                raise ValueError(f"{name} of parameter {place} is not finite")

"""What a run starts from: MODEL.WEIGHTS, or its last checkpoint if the config is still that run's.

The optimizer's state knows its parameters by their places alone. A resumable checkpoint therefore
holds, under "run", their names, the optimizer's name and the config.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from distill.utils.checkpoint import CheckpointError, SafeCheckpointer
from distill.utils.coverage import check_complete, check_fit, measure_coverage
from distill.utils.wording import some_of
from distill.utils.yaml_data import parse_yaml

__all__ = ["RunRecord", "last_checkpoint", "load_for_evaluation", "load_start", "resume_run"]

_logger = logging.getLogger(__name__)
_WEIGHTS = "MODEL.WEIGHTS"
_RECORD = {"optimizer", "parameters", "config"}


class RunRecord:
    """What a resumable checkpoint says of its run, beside the trainer's state.

    Attributes:
        cfg: the config.
        model: the module that trains, not distributed.
        optimizer: its optimizer.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Notes what to describe."""
        self.cfg = cfg
        self.model = model
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's name, its parameters' names by group, and the config as YAML."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        groups = [[names[id(p)] for p in g["params"]] for g in self.optimizer.param_groups]
        classes = type(self.optimizer).__mro__
        # Detectron2 makes a class of its own to clip gradients.
        kind = next(x for x in classes if x.__module__.startswith("torch.optim"))
        return {"optimizer": kind.__name__, "parameters": groups, "config": self.cfg.dump()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes nothing from a checkpoint: :func:`resume_run` compares."""


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
    run = run if isinstance(run, dict) and _RECORD <= run.keys() else None
    _check_trainer(path, state, record.cfg.SOLVER.MAX_ITER)
    _check_model(path, checkpointer, way)
    optimizer = record.optimizer
    # Detectron2 0.6 keeps none, which the trainer says.
    if "_trainer" in state:
        _check_optimizer(path, record.state_dict(), run, state["_trainer"], way)
    own = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    rates = list(scheduler.base_lrs)
    try:
        checkpointer.checkpointables["trainer"].load_state_dict(state)
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"The trainer's state in {path} is not one of this config's ({error!r}): {way}."
        ) from error
    # A rate, decay or momentum that was changed counts, as SOLVER.STEPS and MAX_ITER do.
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
    scheduler.base_lrs = rates
    if run:
        _tell_changes(record.cfg, run["config"])


def _check_trainer(path: str, state: Any, max_iter: int) -> None:
    if not isinstance(state, dict) or not isinstance(state.get("iteration"), int):
        raise CheckpointError(
            f"{path} has weights but no state of a training to resume: start without --resume and "
            "with it as MODEL.WEIGHTS, or name a checkpoint of the training in last_checkpoint."
        )
    if state["iteration"] + 1 > max_iter:
        raise CheckpointError(
            f"{path} was written after {state['iteration'] + 1} iterations, more than "
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
    path: str, own: dict[str, Any], run: dict[str, Any] | None, state: dict[str, Any], way: str
) -> None:
    """Refuses the state of another optimizer, or of one that trains other parameters.

    Args:
        path: the file.
        own: this run's record.
        run: the file's; None in those of earlier releases.
        state: the file's state of the training loop, with the optimizer's.
        way: what to do.
    """
    try:
        found = state["optimizer"]["param_groups"]
        groups = [(len(group["params"]), "betas" in group) for group in found]
        is_adam = groups[0][1]
    except (LookupError, TypeError) as error:
        raise CheckpointError(f"{path} has no optimizer's state to go on with: {way}.") from error
    kind = run["optimizer"] if run else ("Adam" if is_adam else "SGD")
    now = own["optimizer"]
    # Without a record, Adam and AdamW look the same.
    if kind != now and (run or "SGD" in (kind, now)):
        what = f"{kind} in place of SOLVER.OPTIMIZER {now}"
    elif run and run["parameters"] != own["parameters"]:
        names = [{name for group in x["parameters"] for name in group} for x in (run, own)]
        changed = some_of(sorted(names[0] ^ names[1])) or "in other groups"
        what = f"other parameters ({changed}): MODEL, DISTILL.METHODS or what is frozen differs"
    elif [number for number, _ in groups] != [len(g) for g in own["parameters"]]:
        what = "another number of parameters: MODEL, DISTILL.METHODS or what is frozen differs"
    else:
        return
    raise CheckpointError(f"--resume can't go on from {path}, which trained {what}; {way}.")


def _tell_changes(cfg: CfgNode, before: str) -> None:
    """Warns of settings that the run goes on with and did not have until now."""
    try:
        old, new = (_flat(parse_yaml(text, "the run's config")) for text in (before, cfg.dump()))
    except (ValueError, AttributeError, TypeError):
        _logger.warning("What changed since the checkpoint is not known: its config is damaged.")
        return
    changed = [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key != "OUTPUT_DIR"
    ]
    if changed:
        _logger.warning("The run goes on with other settings than before: %s.", ", ".join(changed))


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat

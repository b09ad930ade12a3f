"""What a resumable checkpoint says of its run, beside the trainer's state.

The optimizer's state knows its parameters by their places alone. A resumable checkpoint therefore
holds, under "run", their names, the optimizer's name and the config.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from distill.utils.yaml_data import parse_yaml

__all__ = ["RunRecord", "is_record", "tell_changes"]

_logger = logging.getLogger(__name__)


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
        """Takes nothing from a checkpoint, which is compared before."""


def is_record(run: Any) -> bool:
    """Whether a checkpoint's "run" is what :meth:`RunRecord.state_dict` returns."""
    if not isinstance(run, dict) or not isinstance(run.get("parameters"), list):
        return False
    groups = run["parameters"]
    names = [name for group in groups if isinstance(group, list) for name in group]
    texts = [run.get("optimizer"), run.get("config"), *names]
    return all(isinstance(group, list) for group in groups) and all(
        isinstance(text, str) for text in texts
    )


def tell_changes(cfg: CfgNode, before: str) -> None:
    """Warns of settings that the run goes on with and did not have until now."""
    try:
        old, new = (_flat(parse_yaml(text, "the run's config")) for text in (before, cfg.dump()))
    except (ValueError, AttributeError, TypeError):
        _logger.warning("What changed since the checkpoint is not known: its config is damaged.")
        return
    changed = [
        f"{key} {old.get(key)} -> {new.get(key)}"
        # A key that one release lacks is at its default in the other.
        for key in sorted(old.keys() & new.keys())
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

"""What every distillation method is, and the registry that finds it by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from fvcore.common.registry import Registry
from torch import Tensor, nn

from distill.methods.schedule import Schedule
from distill.utils.config_keys import add_all_keys, check_limits, defines_keys
from distill.utils.wording import did_you_mean
from distill.views.dense_pairs import check_dense_pair
from distill.views.levels import Level
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = [
    "METHODS",
    "Method",
    "MethodOutput",
    "build_methods",
]

M = TypeVar("M", bound="Method")

METHODS = Registry("DISTILL_METHOD")
METHODS.__doc__ = """
Distillation methods by the name that DISTILL.METHODS gives them. A method is a subclass of
`Method`, built as `method(cfg, matched)` with the student's config and the matched feature levels.
"""


@dataclass
class MethodOutput:
    """What a method makes of one batch.

    Attributes:
        losses: named scalars, with the config's weights and without the schedule's factor.
        diagnostics: named scalar tensors for the log.
        picture: called in the iterations that log pictures, for an (H, W, 3) uint8 RGB array.
    """

    losses: dict[str, Tensor]
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    picture: Callable[[], np.ndarray] | None = None


class Method(nn.Module):
    """Base of the methods; its parameters (adapters) are trained with the student's.

    Subclasses define `add_keys`, `forward(student, teacher) -> MethodOutput`, and a constructor
    under Detectron2's `@configurable` that takes every key by its name in lower case. Defaults
    stand in `add_keys` alone: `method(cfg, matched)` reads the config's values, and `with_defaults`
    is for code that has no config.

    Attributes:
        name: name in the registry, and of the method's config node.
        schedule: factor of its losses over training.
    """

    name: str

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Adds the method's keys, with their defaults, to its node DISTILL.<name>."""
        raise NotImplementedError("a method must define add_keys")

    def __init__(self, schedule: Schedule) -> None:
        """Notes the schedule.

        Args:
            schedule: factor of the method's losses over training.
        """
        super().__init__()
        self.schedule = schedule

    @classmethod
    def from_config(cls, cfg: CfgNode, matched: Sequence[Level]) -> dict[str, Any]:
        """The constructor's arguments: every key in lower case, and `schedule` of SCHEDULE.

        Args:
            cfg: the student's config.
            matched: levels that student and teacher share; for methods that read the neck.

        Raises:
            ValueError: one sentence that names the key, if a value is not allowed.
        """
        node = cfg.DISTILL[cls.name]
        check_limits(node, source=f"DISTILL.{cls.name}.")
        arguments = {key.lower(): value for key, value in node.items() if key != "SCHEDULE"}
        return {"schedule": Schedule.from_config(node.SCHEDULE, cfg.SOLVER.MAX_ITER), **arguments}

    @classmethod
    def with_defaults(cls: type[M], matched: Sequence[Level] = (), /, **changes: Any) -> M:
        """The method with the default of every key but those that are given.

        Args:
            matched: levels that student and teacher share; for methods that read the neck.
            changes: arguments of the constructor. The default schedule ends with the default
                SOLVER.MAX_ITER of Detectron2, so that most callers give theirs.
        """
        cfg = get_cfg()
        add_all_keys(cfg)
        node = cfg.DISTILL[cls.name]
        keys = {name for name in changes if name.upper() in node and name != "schedule"}
        node.update({name.upper(): changes.pop(name) for name in keys})
        return cls(cfg, matched, **changes)

    @property
    def requires(self) -> frozenset[str]:
        """Signals that both must provide, see `distill.views.contract.offered_signals`."""
        raise NotImplementedError(f"{type(self).__name__} must define requires")

    @property
    def teacher_requires(self) -> frozenset[str]:
        """Signals that the teacher must provide; by default the same."""
        return self.requires

    @property
    def compares_classes(self) -> bool:
        """Whether it reads the teacher's classes, which are then matched by name."""
        return False

    @property
    def remedy(self) -> str:
        """Which config keys to change where a detector cannot provide what the method requires."""
        return f"take {self.name} out of DISTILL.METHODS"

    def check_pair(self, student: nn.Module, teacher: nn.Module) -> None:
        """Refuses a pair whose signals, though both are there, cannot be compared.

        Args:
            student: the student.
            teacher: the teacher.

        Raises:
            ValueError: one sentence that names the config keys to change.
        """
        for head in {"dense", "rpn"} & self.requires:
            check_dense_pair(student, teacher, head)

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """Compares one batch's signals.

        Args:
            student: signals with gradient.
            teacher: signals without; those that are not read are not computed.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def switched_off(self) -> dict[str, Tensor]:
        """The losses of an iteration whose factor is 0: a zero that reaches every parameter."""
        zero = sum((p.sum() * 0 for p in self.parameters()), start=torch.zeros(()))
        return {f"loss_{self.name.lower()}_off": zero}


@defines_keys
def _add_method_keys(cfg: CfgNode) -> None:
    for name, method in METHODS:
        node = cfg.DISTILL[name] = CfgNode()
        method.add_keys(node)


def build_methods(names: Iterable[str], cfg: CfgNode, levels: tuple[Level, ...]) -> list[Method]:
    """Builds the named methods.

    Args:
        names: DISTILL.METHODS.
        cfg: the student's config.
        levels: feature levels that student and teacher share.

    Raises:
        ValueError: one sentence, if a name is unknown or given twice.
    """
    known = [name for name, _ in METHODS]
    names = list(names)
    for name in names:
        if name not in known:
            raise ValueError(
                f'DISTILL.METHODS names "{name}", which is none of {", ".join(known)}'
                f"{did_you_mean(name, known)}"
            )
        if names.count(name) > 1:
            raise ValueError(f'DISTILL.METHODS names "{name}" more than once')
    return [METHODS.get(name)(cfg, levels) for name in names]

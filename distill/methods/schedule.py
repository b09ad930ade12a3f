"""How the weight of a distillation method changes over training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from detectron2.config import CfgNode

from distill.utils.config_keys import limit
from distill.utils.key_limits import number, one_of, whole

__all__ = ["Schedule", "schedule_keys"]

_DECAYS = ("constant", "linear", "staircase", "cosine")


@dataclass(frozen=True)
class Schedule:
    """A factor for every iteration; a pure function of it, so that a resumed run agrees.

    Attributes:
        name: constant (1 throughout), linear, staircase or cosine; these fall from 1 to
            `end_factor` over `max_iter` iterations. The staircase of E stairs takes the values
            1 - (e - 1) / E for e = 1..E (scaled to end_factor), as task-adaptive regularization
            does by epoch.
        max_iter: iteration at which the decay is complete.
        end_factor: factor from then on.
        stairs: number of stairs E.
        warmup_iters: iterations over which the factor first rises linearly from 0.

    Raises:
        ValueError: if the name is unknown or a number is out of range.
    """

    name: str = "constant"
    max_iter: int = 1
    end_factor: float = 0.0
    stairs: int = 12
    warmup_iters: int = 0

    def __post_init__(self) -> None:
        if self.name not in _DECAYS:
            raise ValueError(f'schedule NAME is "{self.name}"; choose one of {", ".join(_DECAYS)}')
        for key, value, least in (
            ("MAX_ITER", self.max_iter, 1),
            ("STAIRS", self.stairs, 1),
            ("WARMUP_ITERS", self.warmup_iters, 0),
            ("END_FACTOR", self.end_factor, 0),
        ):
            if value < least:
                raise ValueError(f"schedule {key} is {value}; it must be at least {least}")

    @classmethod
    def from_config(cls, node: CfgNode, max_iter: int) -> Schedule:
        """From the keys of one DISTILL.*.SCHEDULE node; MAX_ITER 0 means that of the solver."""
        return cls(
            name=node.NAME,
            max_iter=node.MAX_ITER or max_iter,
            end_factor=node.END_FACTOR,
            stairs=node.STAIRS,
            warmup_iters=node.WARMUP_ITERS,
        )

    def __call__(self, iteration: int) -> float:
        """The factor at an iteration, counted from 0."""
        progress = min(1.0, max(0, iteration) / self.max_iter)
        remaining = {
            "constant": 1.0,
            "linear": 1.0 - progress,
            "staircase": 1.0 - math.floor(progress * self.stairs + 1e-9) / self.stairs,
            "cosine": (1.0 + math.cos(math.pi * progress)) / 2,
        }[self.name]
        factor = self.end_factor + (1.0 - self.end_factor) * remaining
        if iteration < self.warmup_iters:
            factor *= (iteration + 1) / self.warmup_iters
        return factor


def schedule_keys(name: str) -> CfgNode:
    """The keys of a method's SCHEDULE: the factor of its losses over training.

    Args:
        name: the default of NAME.
    """
    node = CfgNode()
    # constant, linear, staircase or cosine; the last three fall from 1 to END_FACTOR.
    node.NAME = name
    # Factor reached at the end of training (ignored by constant).
    node.END_FACTOR = 0.0
    # Number of equal steps of the staircase (the papers' epochs).
    node.STAIRS = 12
    # Iterations over which the factor first rises linearly from 0.
    node.WARMUP_ITERS = 0
    # Iteration at which the decay is complete; 0 means SOLVER.MAX_ITER.
    node.MAX_ITER = 0
    limit(
        node,
        NAME=one_of(*_DECAYS),
        END_FACTOR=number(at_least=0),
        STAIRS=whole(at_least=1),
        WARMUP_ITERS=whole(at_least=0),
        MAX_ITER=whole(at_least=0),
    )
    return node

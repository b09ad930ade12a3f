"""Where the time of a distilled step goes."""

from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils.benchmark import timer

from benchmark.measure import Clock
from benchmark.steps import Step
from distill.distiller import Distiller
from distill.methods.ida_det.selector import ProposalSelector

__all__ = ["break_down"]


class _Parts:
    """Seconds by name, each name less what is measured inside it."""

    def __init__(self, clock: Clock) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._open: list[str] = []
        self._since = 0.0

    def start(self, name: str) -> None:
        self._lap()
        self._open.append(name)
        self._since = self._clock()

    def stop(self) -> None:
        self._lap()
        self._open.pop()
        if self._open:
            self._since = self._clock()

    def _lap(self) -> None:
        if self._open:
            self.seconds[self._open[-1]] += self._clock() - self._since


def break_down(step: Step, rounds: int, clock: Clock = timer) -> dict[str, float]:
    """Median seconds of the parts of a distilled training step.

    Args:
        step: a distilled variant of `build_step`, the student and teacher with an RPN.
        rounds: number of measured steps, after one that is not measured.
        clock: returns seconds, once a GPU is done.

    Returns:
        Seconds by part, in the order in which the parts begin; their sum is a step.
    """
    measured: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        parts = _Parts(clock)
        with _watch(step.model, parts):
            parts.start("backward of student and losses, optimizer")
            step()
            parts.stop()
        measured.append(parts.seconds)
    return {name: statistics.median(x[name] for x in measured[1:]) for name in measured[1]}


@contextmanager
def _watch(model: Distiller, parts: _Parts) -> Iterator[None]:
    """Follows the parts of one step of a distilled model."""
    teacher, heads = model.teacher.model, model.teacher.model.roi_heads
    with ExitStack() as stack:
        _around(stack, parts, "student forward", model.student)
        _around(stack, parts, "teacher backbone", teacher.backbone)
        _around(stack, parts, "teacher ROI pooling", heads.box_pooler)
        _around(stack, parts, "teacher box head", heads.box_head)
        _around(stack, parts, "teacher box head", heads.box_predictor)
        _around(stack, parts, "teacher proposals", teacher.proposal_generator)
        _around_function(stack, parts, "selection of proposals", ProposalSelector, "select")
        for method in model.methods:
            _around(stack, parts, "losses forward", method)
            for adapter in method.adapters.values():
                _around(stack, parts, "adapters forward", adapter)
                _around_backward(stack, parts, "adapters backward", adapter)
        yield


def _around(stack: ExitStack, parts: _Parts, name: str, module: nn.Module) -> None:
    hooks = (
        module.register_forward_pre_hook(lambda *_: parts.start(name)),
        module.register_forward_hook(lambda *_: parts.stop()),
    )
    for hook in hooks:
        stack.callback(hook.remove)


def _around_function(
    stack: ExitStack, parts: _Parts, name: str, owner: type, attribute: str
) -> None:
    """Replaces a method of a class until the stack is closed."""
    function = getattr(owner, attribute)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        parts.start(name)
        result = function(*args, **kwargs)
        parts.stop()
        return result

    setattr(owner, attribute, timed)
    stack.callback(setattr, owner, attribute, function)


def _around_backward(stack: ExitStack, parts: _Parts, name: str, module: nn.Module) -> None:
    hooks = (
        module.register_full_backward_pre_hook(lambda *_: parts.start(name)),
        module.register_full_backward_hook(lambda *_: parts.stop()),
    )
    for hook in hooks:
        stack.callback(hook.remove)

"""Where the time of a distilled step goes."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from benchmark.measure import summarize, synchronize
from benchmark.steps import Step
from distill.distiller import Distiller
from distill.methods.ida_det.selector import ProposalSelector

__all__ = ["break_down"]


class _Clock:
    """Seconds by name, each name less what is measured inside it."""

    def __init__(self, device: str, read: Callable[[], float]) -> None:
        self.device = device
        self.read = read
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []

    def start(self, name: str) -> None:
        self._lap()
        self._open.append((name, self._now()))

    def stop(self) -> None:
        self._lap()
        self._open.pop()
        if self._open:
            self._open[-1] = (self._open[-1][0], self._now())

    def _lap(self) -> None:
        if self._open:
            name, since = self._open[-1]
            self.seconds[name] += self._now() - since

    def _now(self) -> float:
        synchronize(self.device)
        return self.read()


def break_down(
    step: Step, rounds: int, device: str, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of the parts of a distilled training step.

    Args:
        step: a distilled variant of `build_step`, the student and teacher with an RPN.
        rounds: number of measured steps, after one that is not measured.
        device: where the step runs.
        clock: returns seconds.

    Returns:
        Seconds by part, in the order in which the parts begin; their sum is a step.
    """
    measured: list[dict[str, float]] = []
    for index in range(rounds + 1):
        parts = _Clock(device, clock)
        with _watch(step.model, parts):
            parts.start("backward of student and losses, optimizer")
            step()
            parts.stop()
        if index:
            measured.append(dict(parts.seconds))
    return {name: summarize(x[name] for x in measured).median for name in measured[0]}


@contextmanager
def _watch(model: Distiller, clock: _Clock) -> Iterator[None]:
    """Lets the clock follow the parts of one step of a distilled model."""
    teacher, heads = model.teacher.model, model.teacher.model.roi_heads
    with ExitStack() as stack:
        _around(stack, clock, "student forward", model.student)
        _around(stack, clock, "teacher backbone", teacher.backbone)
        _around(stack, clock, "teacher ROI pooling", heads.box_pooler)
        _around(stack, clock, "teacher box head", heads.box_head)
        _around(stack, clock, "teacher box head", heads.box_predictor)
        _around(stack, clock, "teacher proposals", teacher.proposal_generator)
        _around_function(stack, clock, "selection of regions", ProposalSelector, "select")
        for method in model.methods:
            _around(stack, clock, "losses forward", method)
            for adapter in method.adapters.values():
                _around(stack, clock, "adapters forward", adapter)
                _around_backward(stack, clock, "adapters backward", adapter)
        yield


def _around(stack: ExitStack, clock: _Clock, name: str, module: nn.Module) -> None:
    hooks = (
        module.register_forward_pre_hook(lambda *_: clock.start(name)),
        module.register_forward_hook(lambda *_: clock.stop()),
    )
    for hook in hooks:
        stack.callback(hook.remove)


def _around_function(
    stack: ExitStack, clock: _Clock, name: str, owner: type, attribute: str
) -> None:
    """Replaces a method of a class until the stack is closed."""
    function = getattr(owner, attribute)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        clock.start(name)
        result = function(*args, **kwargs)
        clock.stop()
        return result

    setattr(owner, attribute, timed)
    stack.callback(setattr, owner, attribute, function)


def _around_backward(stack: ExitStack, clock: _Clock, name: str, module: nn.Module) -> None:
    hooks = (
        module.register_full_backward_pre_hook(lambda *_: clock.start(name)),
        module.register_full_backward_hook(lambda *_: clock.stop()),
    )
    for hook in hooks:
        stack.callback(hook.remove)

"""SIGTERM and SIGINT while a training runs: noted, so that it ends with a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from detectron2.utils import comm

from distill.engine.loop import TrainLoop

__all__ = ["Interrupted", "StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds within which signals are one: a terminal and a scheduler signal every process of a run,
# and the launcher passes on what it receives.
_AT_ONCE = 0.25


class Interrupted(SystemExit):
    """A signal ends the training; the status is 128 and its number, as shells have it."""

    def __init__(self, number: int) -> None:
        """Notes the signal's number."""
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopSignals:
    """Takes SIGINT and SIGTERM in a context; outside of the main thread it does nothing.

    The first one is noted in the loop, whose ranks agree on it with their next step. A second one
    ends the process at once, with what was saved so far.

    Attributes:
        ignored: whether signals mean nothing any more. The launcher ends all processes as soon as
            one has ended, also the one that is saving.
    """

    def __init__(self, loop: TrainLoop) -> None:
        """Notes whose steps are to be ended."""
        self._loop = loop
        self._process = os.getpid()
        self.ignored = False
        self._since = 0.0
        self._breaks = False
        self._before: dict[int, Any] = {}

    @property
    def received(self) -> int:
        """The number of the first signal; 0 for none."""
        return self._loop.requested_signal

    def __enter__(self) -> StopSignals:
        """Begins to take signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves signals to who took them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """Where a signal may break what runs, such as an evaluation, which changes no weights.

        Raises:
            Interrupted: as soon as there is a signal, or when there was one.
        """
        if self.received:
            raise Interrupted(self.received)
        self._breaks = True
        try:
            yield
        finally:
            self._breaks = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # A worker of a loader, which was forked.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.ignored:
            return
        if self.received:
            if time.monotonic() - self._since > _AT_ONCE:
                os._exit(128 + number)
            return
        self._since = time.monotonic()
        self._loop.requested_signal = number
        if comm.is_main_process():
            name = signal.Signals(number).name
            # Not by a logger, which may just be writing.
            text = f"{name}: the run saves a checkpoint and ends; once more ends it at once.\n"
            os.write(2, text.encode())
        if self._breaks:
            raise Interrupted(number)

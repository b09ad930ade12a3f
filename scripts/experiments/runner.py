"""Runs what is missing of a plan, each run as a process of its script."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

from experiments.plan import Plan, Run
from experiments.run_state import (
    differences,
    iterations_done,
    iterations_wanted,
    put_aside,
    read_results,
    record_needs,
    run_config,
    training_arguments,
)

__all__ = ["CONSOLE_FILE", "RunFailed", "run_plan"]

CONSOLE_FILE = "console.txt"
_SCRIPTS = Path(__file__).resolve().parents[1]
_POLL_SECONDS = 0.5
_SHOWN_LINES = 15


class RunFailed(RuntimeError):
    """A run's process failed; the message has its last lines."""


class _Process:
    """A run at work. Its lock lives as long as the process, even where the runner is killed."""

    def __init__(self, plan: Plan, run: Run, lock: IO[bytes], threads: int) -> None:
        self.run = run
        self.console = run.folder / CONSOLE_FILE
        self._lock = lock
        record_needs(plan, run)
        command = [sys.executable, str(_SCRIPTS / run.script), *training_arguments(run)]
        with open(self.console, "ab") as stream:
            stream.write(f"$ OMP_NUM_THREADS={threads} {shlex.join(command)}\n".encode())
            stream.flush()
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # Threads that spin while they wait make a step ten times as long on a busy machine.
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": str(threads)},
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )

    def close(self) -> None:
        self._lock.close()

    def stop(self) -> None:
        """Ends the process and what it started; the next call of the runner continues the run."""
        try:
            os.killpg(self.popen.pid, signal.SIGTERM)
            self.popen.wait(timeout=10)
        except ProcessLookupError:
            self.popen.wait()
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
        self.close()


def run_plan(
    plan: Plan,
    runs: Sequence[Run],
    *,
    parallel: int = 1,
    replace_changed: bool = False,
    progress: bool = True,
) -> None:
    """Brings runs to their end: skips finished ones, continues interrupted ones, starts the rest.

    A run that another runner, or a process that a killed runner left, is working on is waited for.
    When a run fails, those that do not need it still run.

    Args:
        plan: the plan of the runs.
        runs: runs, needed ones first; what they need is among them or finished.
        parallel: how many run at once; each gets its share of the cores as threads, at most the
            OMP_NUM_THREADS of the environment.
        replace_changed: train a run anew, its folder put aside, where its config has changed.
        progress: show one line of progress.

    Raises:
        FileNotFoundError, ValueError: before anything runs, if a run's config can't be made, or if
            a folder holds a run of another config and `replace_changed` is not set.
        RunFailed: at the end, if runs failed; the message names their logs.
    """
    lengths = {}
    for run in runs:
        cfg = run_config(run)
        lengths[run.id] = iterations_wanted(run, cfg)
        changes = differences(plan, run, cfg)
        if changes and not replace_changed:
            raise ValueError(
                f"{run.folder} holds a run of another config ({'; '.join(changes[:3])}"
                f"{'; ...' if len(changes) > 3 else ''}): choose another output or name, move it "
                "away, or train it anew with --replace-changed."
            )
        if changes:
            tqdm.write(f"{run.id}: training anew, the run before it is in {put_aside(run)}")
    missing = [run for run in runs if read_results(run) is None]
    if not missing:
        return
    threads = _threads_each(min(parallel, len(missing)))
    bar = tqdm(
        total=sum(lengths[run.id] for run in missing),
        initial=sum(iterations_done(run) for run in missing),
        unit="it",
        disable=not progress,
        # Every half second on a terminal, where it rewrites its line; seldom in a file.
        mininterval=_POLL_SECONDS if sys.stderr.isatty() else 30,
        miniters=0,
        smoothing=0.05,
    )
    with _interruptible(), bar:
        failures = _Scheduler(plan, missing, parallel, threads, lengths, bar).run()
    if failures:
        raise RunFailed("\n".join(failures))


class _Scheduler:
    def __init__(
        self,
        plan: Plan,
        runs: Sequence[Run],
        parallel: int,
        threads: int,
        lengths: dict[str, int],
        bar: tqdm,
    ) -> None:
        self.plan = plan
        self.runs = runs
        self.pending = list(runs)
        self.running: list[_Process] = []
        self.failed: dict[str, str] = {}
        self.parallel = parallel
        self.threads = threads
        self.lengths = lengths
        self.bar = bar

    def run(self) -> list[str]:
        """Returns one text for each run that failed."""
        try:
            while self.pending or self.running:
                self._start_ready()
                self._show()
                time.sleep(_POLL_SECONDS)
                for process in [p for p in self.running if p.popen.poll() is not None]:
                    self.running.remove(process)
                    process.close()
                    self._note_end(process)
        finally:
            for process in self.running:
                process.stop()
        self._show()
        return list(self.failed.values())

    def _start_ready(self) -> None:
        for run in list(self.pending):
            if len(self.running) >= self.parallel:
                return
            broken = [need for need in run.needs if need in self.failed]
            if broken:
                self.pending.remove(run)
                self.failed[run.id] = f"{run.id} was not run: it needs {', '.join(broken)}."
            elif all(read_results(self.plan.runs[need]) for need in run.needs):
                self._start(run)

    def _start(self, run: Run) -> None:
        lock = _try_lock(run)
        if lock is None:
            return  # tried again at the next poll
        if read_results(run) is not None:
            lock.close()
        else:
            self.running.append(_Process(self.plan, run, lock, self.threads))
        self.pending.remove(run)

    def _note_end(self, process: _Process) -> None:
        run = process.run
        if process.popen.returncode == 0 and read_results(run) is not None:
            return
        text = process.console.read_text(encoding="utf-8", errors="replace")
        # A progress bar rewrites its line.
        lines = [line.rsplit("\r", 1)[-1] for line in text.rstrip().split("\n")]
        last = "\n".join(f"  | {line}" for line in lines[-_SHOWN_LINES:])
        self.failed[run.id] = (
            f"{run.id} failed with exit status {process.popen.returncode}; the end of "
            f"{process.console}:\n{last}"
        )
        self.bar.write(self.failed[run.id])

    def _show(self) -> None:
        done = 0
        for run in self.runs:
            finished = read_results(run) is not None
            done += self.lengths[run.id] if finished else iterations_done(run)
        names = ", ".join(process.run.id for process in self.running)
        if not names and self.pending:
            names = f"{self.pending[0].id}, in another process"
        self.bar.set_description_str(names, refresh=False)
        self.bar.update(done - self.bar.n)


def _threads_each(processes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = max(1, (cores or 1) // processes)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(limit)) if limit.isdigit() and int(limit) > 0 else share


def _try_lock(run: Run) -> IO[bytes] | None:
    """Locks a run's folder; None where another process has it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    lock = open(run.folder / ".lock", "wb")  # noqa: SIM115 (the process that starts keeps it)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turns the signals that end a program into SystemExit, so that the runs are ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

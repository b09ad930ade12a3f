"""Starts the processes of a run, over NCCL on GPUs and gloo on CPUs, and says how they ended."""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing import ProcessExitedException, spawn

from distill.utils.distributed import ECHO_STATUS, is_echo
from distill.utils.machines import check_processes, meet_machines, runs_on_gpu

__all__ = ["launch_training", "say_error"]

# Names the file into which the processes of a machine write why they failed.
_SAID = "DISTILL_ERRORS"

Main = Callable[[argparse.Namespace], None]


def launch_training(main: Main, args: argparse.Namespace) -> None:
    """Calls ``main(args)`` in every process of a run.

    On GPUs these are ``num_gpus`` a machine, on CPUs ``num_processes``. The exit status of a
    process that fails becomes this one's, and a signal is passed on to all of them; where one ends
    the run, the status is 128 and the signal's number. Options that can't be meant end with a
    sentence and status 2.

    Args:
        main: a function of a module's top level.
        args: num_gpus, num_processes, num_machines, machine_rank, dist_url, and all that main
            reads.
    """
    try:
        check_processes(args)
    except ValueError as error:
        _fail(str(error))
    per_machine = _per_machine(args)
    try:
        if per_machine * args.num_machines == 1:
            main(args)
        elif per_machine == 1:
            _worker(0, main, args, "")
        else:
            # A file needs no free port.
            with tempfile.TemporaryDirectory() as folder:
                _spawn(main, args, per_machine, Path(folder))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _per_machine(args: argparse.Namespace) -> int:
    return args.num_gpus if runs_on_gpu(args) else args.num_processes


def say_error(sentence: str) -> None:
    """Prints ``error: ...``; of several processes of a machine, the launcher prints the first's.

    Args:
        sentence: what is wrong.
    """
    if _SAID in os.environ:
        with open(os.environ[_SAID], "a", encoding="utf-8") as stream:
            stream.write(sentence + "\n")
    else:
        print(f"error: {sentence}", file=sys.stderr, flush=True)


def _spawn(main: Main, args: argparse.Namespace, number: int, folder: Path) -> None:
    """Starts a machine's processes, waits for them, and exits as they did."""
    url, said = (folder / "rendezvous").as_uri(), folder / "errors"
    # It would tell of every process that is ended because another one failed.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    with _signals_passed_on() as received:
        os.environ[_SAID] = str(said)
        with _interrupt_ignored():
            context = spawn(_worker, nprocs=number, args=(main, args, url), join=False)
        try:
            while not context.join():
                pass
        except ProcessExitedException as error:
            os.environ.pop(_SAID)
            if said.exists():
                say_error(said.read_text(encoding="utf-8").splitlines()[0])
            ends = {process.exitcode for process in context.processes}
            _exit_like(ends, error.exit_code, received[0] if received else 0)
        finally:
            os.environ.pop(_SAID, None)


def _exit_like(ends: set[int | None], first: int, received: int) -> None:
    """Exits as processes did, of which at least one failed.

    Args:
        ends: their exit statuses, negative where a signal killed one.
        first: that of the one that failed first.
        received: the signal that this process passed on; 0 for none.
    """
    if received:
        sys.exit(128 + received)
    own = ends - {None, 0, ECHO_STATUS, -signal.SIGTERM}
    killed = [-status for status in own if status < 0]
    if killed:
        _fail(
            f"A process of the run was ended by {signal.Signals(killed[0]).name}, as happens where "
            "memory runs out: see the system's log, lower SOLVER.IMS_PER_BATCH or "
            "DATALOADER.NUM_WORKERS, then go on with --resume."
        )
    if first == ECHO_STATUS and not own:
        _fail("A process of the run on another machine ended: its own message says why.")
    status = first if first in own else (own.pop() if own else first)
    sys.exit(128 - status if status < 0 else status)


@contextlib.contextmanager
def _signals_passed_on() -> Iterator[list[int]]:
    """Passes SIGINT and SIGTERM on to the processes; yields the list of those received."""
    received: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        received.append(number)
        # Not SIGINT, which a terminal has sent to all processes by itself.
        for process in multiprocessing.active_children():
            process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, pass_on), signal.signal(signal.SIGINT, pass_on)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


@contextlib.contextmanager
def _interrupt_ignored() -> Iterator[None]:
    """Lets processes start that ignore SIGINT while they import; :func:`_worker` takes it again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _worker(local_rank: int, main: Main, args: argparse.Namespace, url: str) -> None:
    """One process of several; on one machine they meet at a URL of a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    on_gpu, per_machine = runs_on_gpu(args), _per_machine(args)
    if on_gpu:
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // per_machine))
    rank, size = args.machine_rank * per_machine + local_rank, args.num_machines * per_machine
    try:
        meeting: dict[str, Any] = {"init_method": url}
        if args.num_machines > 1:
            try:
                meeting = {"store": meet_machines(args, per_machine, rank)}
            except TimeoutError as error:
                _fail(str(error) if local_rank == 0 else "")
        backend = "nccl" if on_gpu else "gloo"
        distributed.init_process_group(backend, world_size=size, rank=rank, **meeting)
        _set_local_group(per_machine, args.num_machines, args.machine_rank)
        comm.synchronize()
        main(args)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if is_echo(error):
            sys.exit(ECHO_STATUS)
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _set_local_group(per_machine: int, machines: int, machine: int) -> None:
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(per_machine)
        return
    for other in range(machines):
        ranks = range(other * per_machine, (other + 1) * per_machine)
        group = distributed.new_group(list(ranks))
        if other == machine:
            comm._LOCAL_PROCESS_GROUP = group


def _fail(sentence: str) -> None:
    """Ends the program with status 2, and a sentence unless it is empty."""
    if sentence:
        say_error(sentence)
    sys.exit(2)

"""The machines of a run: options that can't be meant, and waiting for those that are not there."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch
from torch import distributed

__all__ = ["WAIT_FOR_MACHINES", "check_processes", "meet_machines", "runs_on_gpu"]

# Seconds.
WAIT_FOR_MACHINES = 600
_BETWEEN_MESSAGES = 10.0
_BETWEEN_LOOKS = 0.2


def runs_on_gpu(args: argparse.Namespace) -> bool:
    """Whether a run's processes are those of --num-gpus, not of --num-processes."""
    return args.num_gpus > 0 and torch.cuda.is_available()


def check_processes(args: argparse.Namespace) -> None:
    """Checks how many processes on how many machines a command asks for.

    Args:
        args: num_gpus, num_processes, num_machines, machine_rank and dist_url.

    Raises:
        ValueError: one sentence that names the option.
    """
    for name, least in (("num_gpus", 0), ("num_processes", 1), ("num_machines", 1)):
        if getattr(args, name) < least:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} {getattr(args, name)} is too few: give {least} or more.")
    if not 0 <= args.machine_rank < args.num_machines:
        raise ValueError(
            f"--machine-rank {args.machine_rank} is none of --num-machines {args.num_machines}: "
            f"the machines count from 0 to {args.num_machines - 1}."
        )
    if runs_on_gpu(args) and args.num_gpus > torch.cuda.device_count():
        raise ValueError(
            f"--num-gpus {args.num_gpus} is more than this machine has: give at most "
            f"{torch.cuda.device_count()}."
        )
    if args.num_machines > 1:
        _check_url(args.dist_url)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_meant = (
            (parts.scheme == "tcp" and bool(parts.hostname) and bool(parts.port))
            or (parts.scheme == "file" and bool(parts.path))
            or parts.scheme == "env"
        )
    except ValueError:  # The port is no number, or too large.
        is_meant = False
    if not is_meant:
        raise ValueError(
            f"--dist-url {url} is not an address where machines can meet: give "
            "tcp://HOST_OF_MACHINE_0:PORT, or file:///PATH on storage that all of them share."
        )


def meet_machines(args: argparse.Namespace, per_machine: int, rank: int) -> distributed.Store:
    """Opens what the processes of all machines meet in, and waits for them.

    Meanwhile each machine says every ten seconds for which ones it waits.

    Args:
        args: num_machines, machine_rank, dist_url, and wait_for_machines, the longest time in
            seconds, or else WAIT_FOR_MACHINES.
        per_machine: processes of one machine.
        rank: of this process.

    Raises:
        TimeoutError: one sentence that names the machines that did not come.
    """
    seconds = getattr(args, "wait_for_machines", WAIT_FOR_MACHINES)
    deadline = _Deadline(args, seconds, speaks=rank % per_machine == 0)
    store = _open_store(args.dist_url, args.num_machines * per_machine, rank, deadline)
    store.set(f"here/{rank}", "yes")
    others = [m for m in range(args.num_machines) if m != args.machine_rank]
    while missing := [m for m in others if not _is_here(store, m * per_machine)]:
        deadline.wait(missing)
        time.sleep(_BETWEEN_LOOKS)
    return store


class _Deadline:
    """Says who is waited for, and gives up in the end."""

    def __init__(self, args: argparse.Namespace, seconds: float, *, speaks: bool) -> None:
        self.args = args
        self.seconds = seconds
        self.speaks = speaks
        self.end = time.monotonic() + seconds
        self.next_message = time.monotonic() + _BETWEEN_MESSAGES

    def wait(self, missing: Sequence[int]) -> None:
        """To be called again and again while machines are missing."""
        now = time.monotonic()
        names = ", ".join(map(str, missing)) + f" of {self.args.num_machines}"
        if now > self.end:
            raise TimeoutError(
                f"Machine {names} did not come to --dist-url {self.args.dist_url} within "
                f"{self.seconds:g} seconds (--wait-for-machines): start the same command on every "
                "machine, each with its own --machine-rank, and see that they reach that address."
            )
        if self.speaks and now > self.next_message:
            self.next_message = now + _BETWEEN_MESSAGES
            print(
                f"Waiting for machine {names} at {self.args.dist_url}, for up to "
                f"{self.end - now:.0f} seconds more.",
                file=sys.stderr,
                flush=True,
            )


def _open_store(url: str, size: int, rank: int, deadline: _Deadline) -> distributed.Store:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return distributed.FileStore(url2pathname(parts.path), size)
    if parts.scheme == "env":
        return next(distributed.rendezvous(url, rank, size))[0]

    def connect(seconds: float) -> distributed.Store:
        limit = timedelta(seconds=seconds)
        address = parts.hostname, parts.port
        return distributed.TCPStore(*address, size, rank == 0, limit, wait_for_workers=False)

    store = connect(max(deadline.seconds, 1)) if rank == 0 else _try(connect, deadline)
    # As init_process_group's own; until now it said how long to wait for machine 0.
    store.set_timeout(timedelta(minutes=30))
    return store


def _try(connect: Callable[[float], distributed.Store], deadline: _Deadline) -> distributed.Store:
    while True:
        try:
            return connect(min(_BETWEEN_MESSAGES, max(deadline.end - time.monotonic(), 1)))
        except RuntimeError:  # DistNetworkError and DistStoreError are.
            deadline.wait([0])
            time.sleep(_BETWEEN_LOOKS)


def _is_here(store: distributed.Store, rank: int) -> bool:
    return store.check([f"here/{rank}"])

"""Starts the processes of a run: Detectron2's launcher on GPUs, gloo on CPUs."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing import ProcessExitedException, spawn

__all__ = ["launch_training"]

Main = Callable[[argparse.Namespace], None]


def launch_training(main: Main, args: argparse.Namespace) -> None:
    """Calls ``main(args)`` in every process of a run.

    On GPUs these are ``num_gpus`` a machine, on CPUs ``num_processes``. The exit status of a
    process that fails becomes this one's.

    Args:
        main: a function of a module's top level.
        args: Detectron2's arguments and ``num_processes``.
    """
    try:
        if args.num_gpus > 0 and torch.cuda.is_available():
            machines = args.num_machines, args.machine_rank, args.dist_url
            launch(main, args.num_gpus, *machines, args=(args,))
        else:
            _launch_on_cpu(main, args)
    except ProcessExitedException as error:
        sys.exit(error.exit_code)


def _launch_on_cpu(main: Main, args: argparse.Namespace) -> None:
    if args.num_processes * args.num_machines == 1:
        main(args)
    elif args.num_processes == 1:
        _worker(0, main, args, args.dist_url)
    elif args.num_machines > 1:
        spawn(_worker, nprocs=args.num_processes, args=(main, args, args.dist_url))
    else:
        # A file needs no free port.
        with tempfile.TemporaryDirectory() as folder:
            url = (Path(folder) / "rendezvous").as_uri()
            spawn(_worker, nprocs=args.num_processes, args=(main, args, url))


def _worker(local_rank: int, main: Main, args: argparse.Namespace, url: str) -> None:
    per_machine = args.num_processes
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // per_machine))
    distributed.init_process_group(
        "gloo",
        init_method=url,
        world_size=args.num_machines * per_machine,
        rank=args.machine_rank * per_machine + local_rank,
    )
    _set_local_group(per_machine, args.num_machines, args.machine_rank)
    try:
        main(args)
    finally:
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

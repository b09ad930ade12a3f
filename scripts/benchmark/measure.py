"""Seconds in interleaved rounds, and peak memory in a process of its own.

``torch.utils.benchmark`` gives the clock and the statistics. What it lacks are the rounds: its
Timer measures one statement after the other, and other work on the machine then slows only some.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.utils.benchmark import Measurement, TaskSpec, timer

from benchmark.pairs import Pair
from benchmark.steps import build_step

__all__ = ["CLOCKS", "Clock", "peak_memory", "spread", "time_rounds"]

Clock = Callable[[], float]

_MIB = 2**20


def _processor_time() -> float:
    timer()  # waits for a GPU
    return time.process_time()


# Processor time leaves out what other work takes; it sums up threads and knows no GPU.
CLOCKS: dict[str, Clock] = {"wall": timer, "cpu": _processor_time}


def time_rounds(
    steps: Mapping[str, Callable[[], None]], rounds: int, clock: Clock = timer, warm_up: int = 1
) -> dict[str, Measurement]:
    """Seconds of each step in each round; a round runs every step once, one after the other.

    Interleaved, a machine that other work slows down slows all steps alike, and the ratios of
    their medians stay what they are.

    Args:
        steps: the steps by name.
        rounds: number of measured rounds.
        clock: returns seconds, once a GPU is done; see CLOCKS.
        warm_up: rounds before them that are not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(-warm_up, rounds):
        for name, step in steps.items():
            start = clock()
            step()
            elapsed = clock() - start
            if index >= 0:
                seconds[name].append(elapsed)
    return {
        name: Measurement(number_per_run=1, raw_times=times, task_spec=TaskSpec(name, setup=""))
        for name, times in seconds.items()
    }


def spread(measured: Measurement) -> dict[str, float]:
    """Median, smallest and largest of the rounds, in seconds."""
    return {"median": measured.median, "min": min(measured.times), "max": max(measured.times)}


def peak_memory(variant: str, pair: Pair, device: str, threads: int, steps: int = 2) -> float:
    """Most memory, in MiB, that building a variant and running its steps takes.

    On a CPU it is the resident memory beyond that of the process before the models are built, on
    a GPU what torch allocated. A new process measures it, since memory that an earlier variant
    has freed would hide the need for it.

    Args:
        variant: the variant.
        pair: the pair of detectors.
        device: where the steps run.
        threads: CPU threads.
        steps: number of steps; the optimizer's state appears after the first.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_memory_here, variant, pair, device, threads, steps).result()


def _peak_memory_here(variant: str, pair: Pair, device: str, threads: int, steps: int) -> float:
    torch.set_num_threads(threads)
    baseline = _peak_resident()
    step = build_step(variant, pair, device)
    for _ in range(steps):
        step()
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / _MIB
    return _peak_resident() - baseline


def _peak_resident() -> float:
    """Largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage, unlike this, counts the process that started this one.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_MIB if sys.platform == "darwin" else 1024)

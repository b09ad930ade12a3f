"""Seconds in interleaved rounds, and peak memory in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.pairs import Pair
from benchmark.steps import Step, build_step

__all__ = ["CLOCKS", "Spread", "peak_memory", "summarize", "synchronize", "time_rounds"]

# Processor time leaves out what other work takes; it sums up threads and knows no GPU.
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}

_MIB = 2**20


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several measurements."""

    median: float
    min: float
    max: float


def summarize(values: Iterable[float]) -> Spread:
    """The spread of at least one value."""
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def synchronize(device: str) -> None:
    """Waits for a GPU; a CPU is never behind."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def time_rounds(
    steps: Mapping[str, Step],
    rounds: int,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each step in each round; a round runs every step once, one after the other.

    Interleaved, a machine that other work slows down slows all steps alike, and the ratios within
    a round stay what they are.

    Args:
        steps: the steps by name.
        rounds: number of measured rounds.
        device: where the steps run.
        clock: returns seconds; see CLOCKS.
        warm_up: rounds before them that are not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(-warm_up, rounds):
        for name, step in steps.items():
            synchronize(device)
            start = clock()
            step()
            synchronize(device)
            if index >= 0:
                seconds[name].append(clock() - start)
    return seconds


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
    synchronize(device)
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

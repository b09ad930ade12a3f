"""Time and memory of one training step, by detector and method, and throughput of labeling."""

from benchmark.breakdown import break_down
from benchmark.measure import peak_memory, spread, time_rounds
from benchmark.pairs import PAIRS, Pair
from benchmark.steps import Step, build_step

__all__ = [
    "PAIRS",
    "Pair",
    "Step",
    "break_down",
    "build_step",
    "peak_memory",
    "spread",
    "time_rounds",
]

"""Time and memory of one training step, by detector and method, and throughput of labeling."""

from benchmark.breakdown import break_down
from benchmark.labeling import LABELING, format_labeling, measure_labeling
from benchmark.measure import CLOCKS, Spread, peak_memory, summarize, time_rounds
from benchmark.pairs import PAIRS, Pair
from benchmark.report import format_result, measure_pair
from benchmark.steps import Step, build_step

__all__ = [
    "CLOCKS",
    "LABELING",
    "PAIRS",
    "Pair",
    "Spread",
    "Step",
    "break_down",
    "build_step",
    "format_labeling",
    "format_result",
    "measure_labeling",
    "measure_pair",
    "peak_memory",
    "summarize",
    "time_rounds",
]

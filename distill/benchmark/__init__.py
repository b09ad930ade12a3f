"""Time and memory of one training step, by detector and method, and throughput of labelling."""

from distill.benchmark.breakdown import break_down
from distill.benchmark.labeling import LABELING, format_labeling, measure_labeling
from distill.benchmark.measure import CLOCKS, Spread, peak_memory, summarise, time_rounds
from distill.benchmark.pairs import PAIRS, Pair
from distill.benchmark.report import format_result, measure_pair
from distill.benchmark.steps import Step, build_step

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
    "summarise",
    "time_rounds",
]

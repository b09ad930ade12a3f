"""Time and memory of one training step: student alone, teacher, and both in distillation."""

from distill.benchmark.breakdown import break_down
from distill.benchmark.measure import CLOCKS, Spread, peak_memory, summarise, time_rounds
from distill.benchmark.pairs import PAIRS, Pair
from distill.benchmark.report import format_result, measure_pair
from distill.benchmark.steps import Step, build_step

__all__ = [
    "CLOCKS",
    "PAIRS",
    "Pair",
    "Spread",
    "Step",
    "break_down",
    "build_step",
    "format_result",
    "measure_pair",
    "peak_memory",
    "summarise",
    "time_rounds",
]

"""Measures a pair of detectors, as plain values for JSON, and words them."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate
from torch.utils.benchmark import Measurement

from benchmark.breakdown import break_down
from benchmark.measure import CLOCKS, peak_memory, spread, time_rounds
from benchmark.pairs import Pair
from benchmark.steps import build_step

__all__ = ["format_result", "measure_pair"]


def measure_pair(
    name: str,
    pair: Pair,
    *,
    rounds: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    clock: str = "wall",
    memory: bool | None = None,
    breakdown: bool = False,
) -> dict[str, Any]:
    """Time, memory and ratios of all variants of a pair.

    Args:
        name: the pair's name.
        pair: the pair.
        rounds: measured rounds; the pair's own number if None.
        device: "cpu" or a CUDA device.
        threads: CPU threads, for the processes that measure memory.
        clock: "wall", or "cpu" for processor time: see CLOCKS.
        memory: whether to measure it; as suits the pair if None.
        breakdown: whether to add where the time goes of the first distilled variant that is not
            the reference.

    Returns:
        `seconds` by variant, with median, min and max over the rounds; `ratio`,
        `ratio_to_backbone` and, where the pair has a reference, `ratio_to_<reference>` of the
        distilled variants; `counts` by variant of what the methods saw; `peak_mib` and
        `breakdown_seconds` where asked for. A ratio is one of medians: of the distilled step to
        the student's step and the teacher's inference together, whole or, which no distillation
        of features can do without, up to its feature maps; and to the reference's step.
    """
    rounds = rounds or pair.rounds
    steps = {variant: build_step(variant, pair, device) for variant in pair.variants}
    measured = time_rounds(steps, rounds, CLOCKS[clock])
    result: dict[str, Any] = {
        "pair": name,
        "config": pair.config_file,
        "image_size": list(pair.image_size),
        "batch_size": pair.batch_size,
        "rounds": rounds,
        "clock": clock,
        "reference": pair.reference,
        "seconds": {variant: spread(x) for variant, x in measured.items()},
        **_ratios(measured, pair),
        "counts": {variant: steps[variant].counts() for variant in pair.distilled},
    }
    if breakdown:
        variant = next(x for x in pair.distilled if x != pair.reference)
        result["breakdown_seconds"] = break_down(steps[variant], rounds, CLOCKS[clock])
    if pair.memory if memory is None else memory:
        del steps
        result["peak_mib"] = {
            variant: peak_memory(variant, pair, device, threads) for variant in pair.variants
        }
    return result


def _ratios(measured: dict[str, Measurement], pair: Pair) -> dict[str, dict[str, float]]:
    """Of the distilled steps' medians to what each ratio is named after."""
    seconds = {variant: x.median for variant, x in measured.items()}
    bases = {
        "ratio": seconds["student"] + seconds["teacher"],
        "ratio_to_backbone": seconds["student"] + seconds["teacher_backbone"],
    }
    if pair.reference:
        bases[f"ratio_to_{pair.reference}"] = seconds[pair.reference]
    return {
        key: {
            variant: seconds[variant] / base
            for variant in pair.distilled
            if key != f"ratio_to_{variant}"
        }
        for key, base in bases.items()
    }


def format_result(result: dict[str, Any]) -> str:
    """Words what `measure_pair` returns."""
    height, width = result["image_size"]
    titles = {"ratio": "to student + teacher", "ratio_to_backbone": "to student + backbone"}
    if result["reference"]:
        titles[f"ratio_to_{result['reference']}"] = f"to {result['reference']}"
    rows = []
    for variant, seconds in result["seconds"].items():
        ratios = (result[key].get(variant) for key in titles)
        memory = result.get("peak_mib", {}).get(variant)
        median, low, high = (f"{seconds[key]:.4f}" for key in ("median", "min", "max"))
        peak = None if memory is None else f"{memory:.0f}"
        texts = (None if ratio is None else f"{ratio:.3f}" for ratio in ratios)
        rows.append([variant, f"{median} ({low} - {high})", peak, *texts])
    lines = [
        f"{result['pair']}: {result['batch_size']} images of {height}x{width} pixels, "
        f"{result['clock']} time, median of {result['rounds']} rounds (min - max), and the ratios "
        "of medians",
        tabulate(rows, ["", "seconds", "peak MiB", *titles.values()], disable_numparse=True),
    ]
    for variant, counts in result["counts"].items():
        worded = ", ".join(f"{key} {value:.1f}" for key, value in counts.items())
        lines += [f"    {variant}: {worded}"] if worded else []
    for part, seconds in result.get("breakdown_seconds", {}).items():
        lines.append(f"    {part:<43}{seconds:8.4f} s")
    return "\n".join(lines)

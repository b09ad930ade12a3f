"""Measures a pair of detectors, as plain values for JSON, and words them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmark.breakdown import break_down
from benchmark.measure import CLOCKS, peak_memory, summarize, time_rounds
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
        `seconds`, and of the distilled variants `ratio`, `ratio_to_backbone` and, where the pair
        has a reference, `ratio_to_<reference>`, by variant, each with median, min and max over the
        rounds; `counts` by variant of what the methods saw; `peak_mib` and `breakdown_seconds`
        where asked for. The first two ratios are those of the distilled step to the student's step
        and the teacher's inference together, whole or, which no distillation of features can do
        without, up to its feature maps; the third is that to the reference's step.
    """
    rounds = rounds or pair.rounds
    steps = {variant: build_step(variant, pair, device) for variant in pair.variants}
    seconds = time_rounds(steps, rounds, device, CLOCKS[clock])
    result: dict[str, Any] = {
        "pair": name,
        "config": pair.config_file,
        "image_size": list(pair.image_size),
        "batch_size": pair.batch_size,
        "rounds": rounds,
        "clock": clock,
        "reference": pair.reference,
        "seconds": {variant: asdict(summarize(x)) for variant, x in seconds.items()},
        **_ratios(seconds, pair),
        "counts": {variant: steps[variant].counts() for variant in pair.distilled},
    }
    if breakdown:
        variant = next(x for x in pair.distilled if x != pair.reference)
        result["breakdown_seconds"] = break_down(steps[variant], rounds, device, CLOCKS[clock])
    if pair.memory if memory is None else memory:
        del steps
        result["peak_mib"] = {
            variant: peak_memory(variant, pair, device, threads) for variant in pair.variants
        }
    return result


def _ratios(seconds: dict[str, list[float]], pair: Pair) -> dict[str, dict[str, dict[str, float]]]:
    """Of the distilled steps, round by round, to what each ratio is named after."""
    student = seconds["student"]
    bases = {
        f"ratio{suffix}": [sum(both) for both in zip(student, seconds[teacher], strict=True)]
        for suffix, teacher in (("", "teacher"), ("_to_backbone", "teacher_backbone"))
    }
    if pair.reference:
        bases[f"ratio_to_{pair.reference}"] = seconds[pair.reference]
    return {
        key: {
            variant: asdict(summarize(x / y for x, y in zip(seconds[variant], base, strict=True)))
            for variant in pair.distilled
            if base is not seconds[variant]
        }
        for key, base in bases.items()
    }


def format_result(result: dict[str, Any]) -> str:
    """Words what `measure_pair` returns."""
    height, width = result["image_size"]
    titles = {"ratio": "to student + teacher", "ratio_to_backbone": "to student + backbone"}
    if result["reference"]:
        titles[f"ratio_to_{result['reference']}"] = f"to {result['reference']}"
    lines = [
        f"{result['pair']}: {result['batch_size']} images of {height}x{width} pixels, "
        f"{result['clock']} time, median of {result['rounds']} rounds (min - max)",
        _line("", "seconds", "peak MiB", *titles.values()),
    ]
    for variant, seconds in result["seconds"].items():
        memory = result.get("peak_mib", {}).get(variant)
        ratios = (_spread(result[key].get(variant), 3) for key in titles)
        peak = "" if memory is None else f"{memory:.0f}"
        lines.append(_line(variant, _spread(seconds), peak, *ratios))
    for variant, counts in result["counts"].items():
        worded = ", ".join(f"{key} {value:.1f}" for key, value in counts.items())
        lines += [f"    {variant}: {worded}"] if worded else []
    for part, seconds in result.get("breakdown_seconds", {}).items():
        lines.append(f"    {part:<43}{seconds:8.4f} s")
    return "\n".join(lines)


def _line(variant: str, seconds: str, peak: str, *ratios: str) -> str:
    start = f"{variant:<19}{seconds:<27}{peak:>8}   "
    return (start + "".join(f"{ratio:<23}" for ratio in ratios)).rstrip()


def _spread(spread: dict[str, float] | None, digits: int = 4) -> str:
    if spread is None:
        return ""
    median, low, high = (f"{spread[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} - {high})"

"""Measures a pair of detectors, as plain values for JSON, and words them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from distill.benchmark.breakdown import break_down
from distill.benchmark.measure import CLOCKS, peak_memory, summarise, time_rounds
from distill.benchmark.pairs import Pair
from distill.benchmark.steps import VARIANTS, build_step

__all__ = ["format_result", "measure_pair"]

_DISTILLED = [name for name in VARIANTS if name.startswith("distilled")]
_COLUMNS = "{:<19}{:<27}{:>8}   {:<23}{}"


def measure_pair(
    name: str,
    pair: Pair,
    *,
    rounds: int = 5,
    device: str = "cpu",
    threads: int = 1,
    clock: str = "wall",
    memory: bool = True,
    breakdown: bool = False,
) -> dict[str, Any]:
    """Time, memory and ratios of all variants of a pair.

    Args:
        name: the pair's name.
        pair: the pair.
        rounds: measured rounds.
        device: "cpu" or a CUDA device.
        threads: CPU threads, for the processes that measure memory.
        clock: "wall", or "cpu" for processor time: see CLOCKS.
        memory: whether to measure it.
        breakdown: whether to add where the distilled step's time goes.

    Returns:
        `seconds`, `ratio` and `ratio_to_backbone` by variant, each with median, min and max over
        the rounds; `peak_mib` and `breakdown_seconds` where asked for. A ratio is that of the
        distilled step to the student's step and the teacher's inference together, whole or, which
        no distillation of features can do without, up to its feature maps.
    """
    cfg = pair.config(device)
    batch = pair.batch(cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    steps = {variant: build_step(variant, cfg, batch) for variant in VARIANTS}
    seconds = time_rounds(steps, rounds, device, CLOCKS[clock])
    result: dict[str, Any] = {
        "pair": name,
        "config": pair.config_file,
        "image_size": pair.image_size,
        "batch_size": pair.batch_size,
        "rounds": rounds,
        "clock": clock,
        "seconds": {variant: asdict(summarise(x)) for variant, x in seconds.items()},
        "ratio": _ratios(seconds, "teacher"),
        "ratio_to_backbone": _ratios(seconds, "teacher_backbone"),
    }
    if breakdown:
        result["breakdown_seconds"] = break_down(steps["distilled"], rounds, device, CLOCKS[clock])
    if memory:
        del steps
        result["peak_mib"] = {
            variant: peak_memory(variant, pair, device, threads) for variant in VARIANTS
        }
    return result


def _ratios(seconds: dict[str, list[float]], teacher: str) -> dict[str, dict[str, float]]:
    """Of each distilled step, round by round, to the student's and one of the teacher's."""
    apart = [sum(both) for both in zip(seconds["student"], seconds[teacher], strict=True)]
    return {
        variant: asdict(summarise(x / y for x, y in zip(seconds[variant], apart, strict=True)))
        for variant in _DISTILLED
    }


def format_result(result: dict[str, Any]) -> str:
    """Words what `measure_pair` returns."""
    size = result["image_size"]
    lines = [
        f"{result['pair']}: {result['batch_size']} images of {size}x{size} pixels, "
        f"{result['clock']} time, median of {result['rounds']} rounds (min - max)",
        _COLUMNS.format("", "seconds", "peak MiB", "to student + teacher", "to student + backbone"),
    ]
    for variant, seconds in result["seconds"].items():
        memory = result.get("peak_mib", {}).get(variant)
        ratios = (_spread(result[key].get(variant), 2) for key in ("ratio", "ratio_to_backbone"))
        peak = "" if memory is None else f"{memory:.0f}"
        lines.append(_COLUMNS.format(variant, _spread(seconds), peak, *ratios).rstrip())
    for part, seconds in result.get("breakdown_seconds", {}).items():
        lines.append(f"    {part:<40}{seconds:8.4f} s")
    return "\n".join(lines)


def _spread(spread: dict[str, float] | None, digits: int = 4) -> str:
    if spread is None:
        return ""
    median, low, high = (f"{spread[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} - {high})"

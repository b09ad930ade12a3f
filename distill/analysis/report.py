"""Costs as text."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

from distill.analysis.costs import Cost, Costs

__all__ = ["format_costs"]


def format_costs(costs: Costs) -> str:
    """Tables by part of the detector and by kind of layer, and the layer that is largest.

    Args:
        costs: of a detector.
    """
    largest = max(costs.layers, key=lambda layer: layer.cost.size_mb)
    lines = [
        _table("part", costs.groups, costs.total),
        "",
        _table("kind", costs.kinds, costs.total),
        "",
        f"The largest layer is {largest.name}, one of the {largest.kind}: "
        f"{largest.cost.size_mb:.2f} MB, {_share(largest.cost.size_mb, costs.total.size_mb)} of "
        "the size.",
    ]
    if costs.uncounted:
        lines.append(f"Not counted, since it did not run: {', '.join(costs.uncounted)}.")
    return "\n".join(lines)


def _table(title: str, parts: Mapping[str, Cost], total: Cost) -> str:
    headers = [title, "1-bit params (M)", "real params (M)", "size (MB)", "", "OPs (G)", ""]
    rows = [
        [
            name,
            f"{cost.params_1bit / 1e6:.3f}",
            f"{cost.params_real / 1e6:.3f}",
            f"{cost.size_mb:.2f}",
            _share(cost.size_mb, total.size_mb),
            f"{cost.ops_g:.3f}",
            _share(cost.ops_g, total.ops_g),
        ]
        for name, cost in [*parts.items(), ("total", total)]
    ]
    alignment = ["left"] + ["right"] * 6
    return tabulate(rows, headers, colalign=alignment, disable_numparse=True)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"

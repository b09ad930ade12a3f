"""Costs as text."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

from distill.deploy.analysis.costs import Cost, Costs

__all__ = ["format_costs"]


def format_costs(costs: Costs) -> str:
    """Tables by part of the detector and by kind of layer, and where most of the size is.

    Args:
        costs: of a detector, with at least one layer.
    """
    total = costs.total
    kind, most = max(costs.kinds.items(), key=lambda item: item[1].size_mb)
    layer = max(costs.layers, key=lambda layer: layer.cost.size_mb)
    lines = [
        _table("part", costs.groups, total),
        "",
        _table("kind of layer", costs.kinds, total),
        "",
        f"{_share(most.size_mb, total.size_mb)} of the size is {kind}. The largest layer is "
        f"{layer.name}: {layer.cost.size_mb:.2f} MB, {_share(layer.cost.size_mb, total.size_mb)}.",
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

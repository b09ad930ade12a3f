"""Training curves of runs, as pictures that a page can hold."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["Metrics", "draw_detection_loss", "draw_metrics", "draw_scores", "read_metrics"]

Metrics = list[dict[str, float]]
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 11,
    "legend.frameon": False,
    "axes.prop_cycle": "cycler('color', ['#0072b2', '#d55e00', '#009e73', '#cc79a7'])",
    # Text stays text: smaller, and readable by search and screen readers.
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",
}


def read_metrics(folder: Path) -> Metrics:
    """Reads the metrics.json of a run directory."""
    lines = (folder / "metrics.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def draw_detection_loss(runs: Mapping[str, Metrics]) -> str:
    """Draws the detection losses' sum of each run, without distillation terms, as SVG."""

    def plot(axes: Axes) -> None:
        for name, metrics in runs.items():
            points = [
                (record["iteration"] + 1, _detection_loss(record))
                for record in metrics
                if "total_loss" in record
            ]
            _plot(axes, points, label=name)
        axes.set_ylabel("detection loss (median of 20)")
        axes.set_yscale("log")

    return _svg(plot)


def draw_scores(
    runs: Mapping[str, Metrics], key: str, label: str, reference: tuple[str, float | None]
) -> str | None:
    """Draws a score that is evaluated now and then, as SVG.

    Args:
        runs: title -> metrics.
        key: name of the score in the metrics.
        label: name of the score on the axis.
        reference: name and value of a horizontal line; no line where the value is None.

    Returns:
        None where no run has more than one value.
    """
    points = {name: _scores(metrics, key) for name, metrics in runs.items()}
    if all(len(values) < 2 for values in points.values()):
        return None

    def plot(axes: Axes) -> None:
        for name, values in points.items():
            _plot(axes, values, label=name, marker="o", markersize=4)
        if reference[1] is not None:
            axes.axhline(reference[1], color="0.4", linestyle="--", label=reference[0])
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)

    return _svg(plot)


def draw_metrics(
    metrics: Metrics, keys: Mapping[str, str], label: str, *, log: bool = False
) -> str | None:
    """Draws some metrics of one run, as SVG.

    Args:
        metrics: the run's.
        keys: name in the metrics -> name in the legend.
        label: name of the vertical axis.
        log: make it logarithmic.

    Returns:
        None where the run has none of the metrics.
    """
    if not any(key in record for record in metrics for key in keys):
        return None

    def plot(axes: Axes) -> None:
        for key, name in keys.items():
            points = [(r["iteration"] + 1, r[key]) for r in metrics if key in r]
            _plot(axes, points, label=name)
        axes.set_ylabel(label)
        if log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)

    return _svg(plot)


def _scores(metrics: Metrics, key: str) -> list[tuple[float, float]]:
    # The last evaluation comes after the last iteration, the others before the next one.
    last = metrics[-1]["iteration"] if metrics else 0
    return [(min(r["iteration"] + 1, last), r[key]) for r in metrics if key in r]


def _detection_loss(record: dict[str, float]) -> float:
    losses = [v for k, v in record.items() if k.startswith("loss_") and "tadf" not in k]
    return sum(losses) if losses else record["total_loss"]


def _plot(axes: Axes, points: Sequence[tuple[float, float]], **style: object) -> None:
    values = np.array(points, dtype=float).reshape(-1, 2)
    axes.plot(values[:, 0], values[:, 1], linewidth=1.8, **style)


def _svg(plot: Callable[[Axes], None]) -> str:
    """Draws into one set of axes over iterations; returns an SVG document."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.subplots()
        plot(axes)
        axes.set_xlabel("iteration")
        axes.legend()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()

"""A picture of what boxes are like against the threshold of their scores."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.labeling.calibration import Calibration
from distill.labeling.score_curve import Curve
from distill.utils.files import atomic_write

__all__ = ["plot_calibration"]

_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
# As many as are told apart by color.
_MOST_NAMES = 10


def plot_calibration(calibration: Calibration, path: str | Path) -> None:
    """Writes precision, recall, F-beta and boxes per image against the threshold as a PNG.

    Thin lines are classes, their dots the chosen thresholds; the thick one is all together, its
    dot the default threshold. Up to 10 classes are named.

    Args:
        calibration: what to draw.
        path: the file.

    Raises:
        OSError: if it can't be written.
    """
    panels: dict[str, Callable[[Curve], np.ndarray]] = {
        "precision": lambda curve: curve.precision,
        "recall": lambda curve: curve.recall,
        f"F-beta (beta = {calibration.pooled.beta:g})": lambda curve: curve.f_beta,
        "boxes per image": lambda curve: curve.boxes / calibration.num_images,
    }
    with rc_context(_STYLE):
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        grid = figure.subplots(2, 2, sharex=True)
        for axes, (title, values) in zip(grid.flat, panels.items(), strict=True):
            _draw(axes, calibration, values)
            axes.set_title(title)
            axes.set_xlim(0, 1)
        for axes in grid.flat[:3]:
            axes.set_ylim(0, 1.02)
        grid.flat[3].set_yscale("log")
        for axes in grid[1]:
            axes.set_xlabel("threshold")
        figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside right upper")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    atomic_write(Path(path), lambda file: file.write(stream.getvalue()))


def _draw(axes: Axes, calibration: Calibration, values: Callable[[Curve], np.ndarray]) -> None:
    few = len(calibration.classes) <= _MOST_NAMES
    for number, row in enumerate(calibration.classes):
        color = colormaps["tab10"](number) if few else "0.6"
        label = row.name if few else ("each class" if number == 0 else None)
        _line(axes, row.curve, values, row.threshold, color=color, label=label, linewidth=1)
    _line(
        *(axes, calibration.pooled, values, calibration.default),
        **{"color": "black", "label": "all classes", "linewidth": 2.5},
    )


def _line(
    axes: Axes,
    curve: Curve,
    values: Callable[[Curve], np.ndarray],
    threshold: float,
    **style: object,
) -> None:
    points = values(curve)
    axes.plot(curve.thresholds, points, **style)
    kept = int((curve.scores > threshold).sum())
    if kept:
        axes.plot([threshold], [points[kept - 1]], "o", color=style["color"], markersize=5)

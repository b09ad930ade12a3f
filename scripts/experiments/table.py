"""A plan's results as markdown: mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from experiments.plan import Plan
from experiments.run_state import read_results

__all__ = ["format_tables", "mean_and_spread"]

_METRICS = {"AP": "ap", "AP50": "ap50", "AP75": "ap75"}


def format_tables(plan: Plan, dataset: str | None = None) -> str:
    """Formats a table for each group of the plan, or one of all runs where it has none.

    Args:
        plan: the plan.
        dataset: a test dataset of the runs; by default the first of each.

    Returns:
        Markdown; seeds that are unfinished are left out, and n says how many are not.

    Raises:
        ValueError: if a finished run was not evaluated on the dataset.
    """
    groups = plan.groups or {"": tuple(plan.names)}
    tables = []
    for title, names in groups.items():
        rows = [_row(plan, name, dataset) for name in names]
        headers = ["run", *_METRICS, "n", "iterations", "train seconds", "parameters (M)"]
        table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        tables.append(f"### {title}\n\n{table}" if title else table)
    return "\n\n".join(tables)


def mean_and_spread(values: Sequence[float | None], digits: int = 1) -> str:
    """Formats mean ± sample standard deviation; the mean alone of one value, "-" of none.

    Args:
        values: one number a seed; None, an undefined one, makes the mean undefined.
        digits: decimal places.
    """
    if not values or any(value is None for value in values):
        return "-"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _row(plan: Plan, name: str, dataset: str | None) -> list[str]:
    read = [read_results(run) for run in plan.runs.values() if run.name == name]
    runs = [_on(dataset, results, name) for results in read if results is not None]

    def column(key: str, digits: int = 1) -> str:
        return mean_and_spread([run[key] for run in runs], digits)

    iterations = "/".join(str(number) for number in sorted({run["iterations"] for run in runs}))
    seconds, parameters = column("train_seconds", 0), column("params_m", 2).split(" ")[0]
    metrics = [column(key) for key in _METRICS.values()]
    return [name, *metrics, str(len(runs)), iterations or "-", seconds, parameters]


def _on(dataset: str | None, results: dict[str, Any], name: str) -> dict[str, Any]:
    """The results with the metrics of one dataset in front."""
    if dataset is None or dataset == results["dataset"]:
        return results
    if dataset not in results.get("datasets", {}):
        raise ValueError(
            f"{name} was not evaluated on {dataset} but on {results['dataset']}: name another "
            "dataset, or put it into DATASETS.TEST of the plan's opts."
        )
    return {**results, **results["datasets"][dataset]}

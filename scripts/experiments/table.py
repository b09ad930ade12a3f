"""Tables of runs as markdown: mean and spread over seeds, from run directories or from a CSV."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from experiments.plan import Group, Plan, load_plan
from experiments.records import Row, read_rows, rows_of

__all__ = ["format_tables", "mean_and_spread", "tables_in", "update_tables"]

# A table in a page, and where it comes from: <!-- table PLAN: GROUP --> ... <!-- end of table -->
_MARKED = re.compile(r"(<!-- table (\S+): (.+?) -->\n\n).*?(\n\n<!-- end of table -->)", re.S)


def format_tables(plan: Plan, dataset: str | None = None) -> str:
    """Formats a table for each group of the plan, or one of all runs where it has none.

    Args:
        plan: the plan; its run directories are read.
        dataset: a test dataset of the runs; by default the columns of the plan, or the first test
            dataset.

    Returns:
        Markdown; seeds that are unfinished are left out, and seeds says how many are not.

    Raises:
        ValueError: if a finished run was not evaluated on the dataset.
    """
    groups = plan.groups or {"run": Group({name: name for name in plan.names})}
    shown = {name for group in groups.values() for name in group.rows}
    rows = [row for row in rows_of(plan) if row["name"] in shown]
    if dataset is not None:
        for row in rows:
            _check_evaluated(row, dataset)
    scores = dataset or next((x for row in rows for x in _datasets(row)), "")
    default = {score: f"{scores}/{score}" for score in ("AP", "AP50", "AP75")}
    default |= {"train seconds": "seconds", "parameters": "parameters"}
    return "\n\n".join(
        _table(title, group.rows, (None if dataset else group.columns) or default, rows)
        for title, group in groups.items()
    )


def tables_in(text: str) -> list[str]:
    """The tables of a page's markers, anew from the CSV beside each table's plan.

    A marker names the plan, relative to the working directory, and the group's title. The CSV is in
    the folder above the plan's.

    Raises:
        FileNotFoundError: if there is no such plan.
        ValueError: if the plan has no such group, or the group no columns.
    """
    return [_recorded(match[2], match[3]) for match in _MARKED.finditer(text)]


def update_tables(text: str) -> str:
    """Replaces the tables of a page by those of :func:`tables_in`."""
    return _MARKED.sub(lambda match: match[1] + _recorded(match[2], match[3]) + match[4], text)


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


def _recorded(path: str, title: str) -> str:
    plan = load_plan(path)
    group = plan.groups.get(title)
    if group is None or not group.columns:
        raise ValueError(f"{path} has no group {title!r} with columns; it has {list(plan.groups)}.")
    rows = [
        row for row in read_rows(Path(path).resolve().parent.parent) if row["plan"] == plan.name
    ]
    return _table(title, group.rows, group.columns, rows)


def _datasets(row: Row) -> list[str]:
    return [column.removesuffix("/AP") for column in row if column.endswith("/AP")]


def _check_evaluated(row: Row, dataset: str) -> None:
    if dataset not in _datasets(row):
        raise ValueError(
            f"{row['name']} was not evaluated on {dataset} but on "
            f"{', '.join(_datasets(row)) or 'nothing'}: name another dataset, or put it into "
            "DATASETS.TEST of the plan's opts."
        )


def _table(title: str, labels: dict[str, str], columns: dict[str, str], rows: Sequence[Row]) -> str:
    """A table whose first cells are a group's title, and the labels of its rows."""
    table = []
    for name, label in labels.items():
        runs = [row for row in rows if row["name"] == name]
        cells = [_cell(runs, column) for column in columns.values()]
        table.append([*_cells(label), _cell(runs, "iterations"), str(len(runs)), *cells])
    headers = [*_cells(title), "iterations", "seeds", *columns]
    return tabulate(table, headers, tablefmt="github", disable_numparse=True)


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.split("|")]


def _cell(runs: Sequence[Row], column: str) -> str:
    if column in ("iterations", "parameters"):
        # Alike for all seeds, as a rule.
        return "/".join(sorted({row[column] for row in runs if row.get(column)}, key=float)) or "-"
    values = [float(row[column]) if row.get(column) else None for row in runs]
    return mean_and_spread(values, 1 if "/" in column else 0)

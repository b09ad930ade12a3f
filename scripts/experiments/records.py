"""What was measured, as a CSV beside the plans of a paper: one row a run."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.engine.results import RESULTS_FILE
from distill.utils.files import atomic_write, first_line
from experiments.plan import Plan, Run
from experiments.run_state import config_digest, read_results, recorded_config

__all__ = ["ENVIRONMENTS_FILE", "RECORDS_FILE", "Row", "read_rows", "record_runs", "rows_of"]

RECORDS_FILE = "results.csv"
ENVIRONMENTS_FILE = "environments.txt"
Row = dict[str, str]
_SCORES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "top1": "top1", "top5": "top5"}
_KEY = ("plan", "name", "seed")
_NUMBERS = ("seed", "iterations", "seconds", "parameters")
_FIRST = (*_KEY, "revision", "config", "environment")
_ABSOLUTE_PATH = re.compile(r"(?<![\w.>/:-])/(?:[\w.+-]+/)+")


def rows_of(plan: Plan) -> list[Row]:
    """The rows of the finished runs of a plan, without revision, config and environment.

    Columns: plan, name, seed, iterations, seconds of training steps, the student's parameters, then
    ``<dataset>/AP``, ``/AP50`` and ``/AP75`` in percent of every test dataset (``/top1`` and
    ``/top5`` of a pre-training), and, with the stage before it, the same after each stage but the
    last. What is undefined is empty.
    """
    found = ((run, read_results(run)) for run in plan.runs.values())
    return [_row(plan, run, results) for run, results in found if results is not None]


def record_runs(plan: Plan, folder: Path) -> list[Row]:
    """Adds the finished runs of a plan to a CSV, or replaces their rows.

    Beside the columns of :func:`rows_of` it has: revision, the commit that trained; config,
    :func:`~experiments.run_state.config_digest` of the run's config.yaml; environment, the heading
    of its versions in environments.txt.

    Args:
        plan: the plan.
        folder: gets results.csv and environments.txt.

    Returns:
        The rows that were written.

    Raises:
        ValueError: before anything is written, if a run was trained from a modified tree.
    """
    texts: dict[str, str] = {}
    new = []
    for run in plan.runs.values():
        results = read_results(run)
        if results is not None:
            revision, environment = _environment(run)
            texts[_heading(environment)] = environment
            source = {
                "revision": revision,
                "config": config_digest(recorded_config(run), plan.output),
                "environment": _heading(environment),
            }
            new.append({**_row(plan, run, results), **source})
    folder.mkdir(parents=True, exist_ok=True)
    rows = {_key(row): row for row in [*read_rows(folder), *new]}
    _write_environments(folder, texts)
    _write_rows(folder, list(rows.values()))
    return new


def read_rows(folder: Path) -> list[Row]:
    """The rows of a folder's results.csv; none where there is no such file.

    Raises:
        ValueError: one sentence, if it is damaged.
    """
    path = folder / RECORDS_FILE
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = list(reader)
        _check_rows(reader.fieldnames or (), rows)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} is damaged ({first_line(error)}): restore it from its repository, or delete "
            "it and record the runs anew."
        ) from error
    return rows


def _check_rows(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Refuses what can't have been written here."""
    if missing := [name for name in _KEY if name not in columns]:
        raise ValueError(f"it has no column {missing[0]}")
    if len(set(columns)) < len(columns):
        raise ValueError("a column is there twice")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"row {line} has not as many cells as columns")
        for column, cell in row.items():
            if cell and (column in _NUMBERS or "/" in column) and not _is_finite(cell):
                raise ValueError(f"row {line} has {cell!r} for {column}, which is no number")
    if len({_key(row) for row in rows}) < len(rows):
        raise ValueError("a run is there twice")


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _row(plan: Plan, run: Run, results: Mapping[str, Any]) -> Row:
    try:
        return _cells(plan, run, results)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        path, reason = run.folder / RESULTS_FILE, f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(
            f"{path} is damaged ({reason}): move {run.folder} away, and the run is trained anew."
        ) from error


def _cells(plan: Plan, run: Run, results: Mapping[str, Any]) -> Row:
    values = {
        "plan": plan.name,
        "name": run.name,
        "seed": run.seed,
        "iterations": results["iterations"],
        "seconds": round(results["train_seconds"]),
        "parameters": round(results["params_m"] * 1e6),
        **_scores(results),
    }
    for stage, part in list(results.get("stages", {}).items())[:-1]:
        values |= {f"{stage}/{name}": score for name, score in _scores(part).items()}
    return {key: _text(value) for key, value in values.items()}


def _scores(results: Mapping[str, Any]) -> dict[str, float | None]:
    """<dataset>/<metric> -> value of what a results.json, or a stage in it, has."""
    by_dataset = results.get("datasets", {results["dataset"]: results})
    return {
        f"{dataset}/{name}": scores[key]
        for dataset, scores in by_dataset.items()
        for key, name in _SCORES.items()
        if dataset is not None and key in scores
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in _KEY)


def _environment(run: Run) -> tuple[str, str]:
    """The revision of a run, and its versions without folders of this machine."""
    text = (run.folder / "env.txt").read_text(encoding="utf-8", errors="replace")
    first, _, rest = text.partition("\n")
    revision = first.removeprefix("git revision: ")
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise ValueError(
            f"{run.id} was trained from a modified or unknown tree (revision {revision}), so it "
            "can't be repeated: commit what it needs, move its folder away, and train it anew."
        )
    return revision, _ABSOLUTE_PATH.sub("<path>/", rest).strip() + "\n"


def _heading(environment: str) -> str:
    return hashlib.sha256(environment.encode()).hexdigest()[:8]


def _write_rows(folder: Path, rows: Sequence[Row]) -> None:
    columns = dict.fromkeys([*_FIRST, *(column for row in rows for column in row)])
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(folder / RECORDS_FILE, lambda file: file.write(stream.getvalue().encode()))


def _write_environments(folder: Path, texts: Mapping[str, str]) -> None:
    path = folder / ENVIRONMENTS_FILE
    try:
        known = path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or delete it.") from error
    added = "".join(f"== {k} ==\n{v}" for k, v in texts.items() if f"== {k} ==" not in known)
    if added:
        atomic_write(path, lambda file: file.write((known + added).encode()))

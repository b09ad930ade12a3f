"""Tables: means, sample deviations, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments.plan import Plan, Run
from experiments.table import format_tables, mean_and_spread


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two finished seeds and one to come, and a run that has not begun."""
    runs = [Run("done", seed, "x.yaml", (), tmp_path / "done" / f"seed{seed}") for seed in range(3)]
    runs.append(Run("to_come", 0, "x.yaml", (), tmp_path / "to_come" / "seed0"))
    for run, ap in zip(runs, (50.0, 52.0), strict=False):
        run.folder.mkdir(parents=True)
        (run.folder / "model_final.pth").touch()
        results = {
            "ap": ap,
            "ap50": 80.0,
            "ap75": None,
            "params_m": 0.218,
            "iterations": 800,
            "train_seconds": 100.4,
            "seed": run.seed,
            "dataset": "a",
            "datasets": {
                "a": {"ap": ap, "ap50": 80.0, "ap75": None},
                "b": {"ap": 1.0, "ap50": 2.0, "ap75": 3.0},
            },
        }
        (run.folder / "results.json").write_text(json.dumps(results))
    return Plan(tmp_path, {run.id: run for run in runs})


def cells(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, 2.0, 4.0], "2.3 ± 1.5"),
        ([7.25], "7.2"),
        ([], "-"),
        ([1.0, None], "-"),
    ],
)
def test_mean_and_sample_deviation(values: list[float | None], text: str) -> None:
    assert mean_and_spread(values) == text


def test_a_row_is_a_run_over_its_finished_seeds(plan: Plan) -> None:
    table = format_tables(plan)
    assert cells(table, "done") == [
        "done",
        "51.0 ± 1.4",
        "80.0 ± 0.0",
        "-",
        "2",
        "800",
        "100 ± 0",
        "0.22",
    ]
    assert cells(table, "to_come") == ["to_come", "-", "-", "-", "0", "-", "-", "-"]


def test_groups_are_tables_with_titles(plan: Plan) -> None:
    plan.groups.update({"first": ("done",), "second": ("to_come",)})
    first, second = format_tables(plan).split("### second")
    assert first.startswith("### first")
    assert "to_come" not in first
    assert "done" not in second


def test_another_dataset_can_be_shown(plan: Plan) -> None:
    assert cells(format_tables(plan, "b"), "done")[1] == "1.0 ± 0.0"
    with pytest.raises(ValueError, match="done was not evaluated on c but on a"):
        format_tables(plan, "c")

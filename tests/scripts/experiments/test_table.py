"""Tables: means, sample deviations, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments.plan import Group, Plan, Run
from experiments.table import format_tables, mean_and_spread, tables_in, update_tables


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
        "800",
        "2",
        "51.0 ± 1.4",
        "80.0 ± 0.0",
        "-",
        "100 ± 0",
        "218000",
    ]
    assert cells(table, "to_come") == ["to_come", "-", "0", "-", "-", "-", "-", "-"]


def test_groups_are_tables_with_titles_labels_and_columns(plan: Plan) -> None:
    plan.groups["first | kind"] = Group({"done": "trained | twice"}, {"score": "b/AP"})
    plan.groups["second"] = Group({"to_come": "not yet"})
    first, second = format_tables(plan).split("\n\n")
    assert cells(first, "first") == ["first", "kind", "iterations", "seeds", "score"]
    assert cells(first, "trained") == ["trained", "twice", "800", "2", "1.0 ± 0.0"]
    assert cells(second, "not yet")[0] == "not yet"
    assert "trained" not in second


def test_another_dataset_can_be_shown(plan: Plan) -> None:
    assert cells(format_tables(plan, "b"), "done")[3] == "1.0 ± 0.0"
    with pytest.raises(ValueError, match="done was not evaluated on c but on a, b"):
        format_tables(plan, "c")


PLAN = """
output: out
config: x.yaml
seeds: [0, 1]
runs: [{name: alone}]
columns: {AP: a/AP}
groups:
  short: {alone: student alone}
"""
CSV = "plan,name,seed,iterations,a/AP\nresults,alone,0,8,1.0\nresults,alone,1,8,2.0\n"
PAGE = "Before.\n\n<!-- table {plan}: short -->\n\nold\n\n<!-- end of table -->\n\nAfter.\n"


@pytest.fixture
def page(tmp_path: Path) -> str:
    """A page with one marked table, of a plan with two recorded runs."""
    path = tmp_path / "plans" / "results.yaml"
    path.parent.mkdir()
    path.write_text(PLAN)
    (tmp_path / "results.csv").write_text(CSV + "other,alone,2,8,9.0\n")
    return PAGE.format(plan=path)


def test_a_marked_table_is_made_of_the_recorded_runs_of_its_plan(page: str) -> None:
    (table,) = tables_in(page)
    assert cells(table, "student alone") == ["student alone", "8", "2", "1.5 ± 0.7"]
    updated = update_tables(page)
    assert updated == page.replace("old", table)
    assert update_tables(updated) == updated


def test_a_marker_of_no_group_is_named(page: str) -> None:
    with pytest.raises(ValueError, match=r"results.yaml has no group 'shrt'.*'short'"):
        tables_in(page.replace("short", "shrt"))

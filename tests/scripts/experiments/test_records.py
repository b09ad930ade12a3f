"""The CSV of runs: what a row has, and which runs get none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from experiments.plan import Plan, Run
from experiments.records import read_rows, record_runs, rows_of
from experiments.run_state import config_digest, flat_config, run_config

CONFIG = str(Path(__file__).parents[3] / "configs" / "digits" / "faster_rcnn_student.yaml")
REVISION = "0123456789abcdef0123456789abcdef01234567"
RESULTS: dict[str, Any] = {
    "ap": 50.12345,
    "ap50": 80.0,
    "ap75": None,
    "params_m": 0.218753,
    "iterations": 800,
    "train_seconds": 100.4,
    "dataset": "a",
}


def finish(plan: Plan, run: Run, revision: str = REVISION, **results: Any) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "model_final.pth").touch()
    (run.folder / "config.yaml").write_text(run_config(run).dump())
    (run.folder / "results.json").write_text(json.dumps({**RESULTS, **results}))
    text = f"git revision: {revision}\ntorch 9.9 @/somewhere/deep/torch\n"
    (run.folder / "env.txt").write_text(text)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """One finished seed and one to come."""
    runs = [Run("x", k, CONFIG, (), tmp_path / "runs" / "x" / f"seed{k}") for k in range(2)]
    plan = Plan(tmp_path / "runs", {run.id: run for run in runs}, name="p")
    finish(plan, runs[0])
    return plan


def test_only_a_finished_run_has_a_row(plan: Plan, tmp_path: Path) -> None:
    record_runs(plan, tmp_path / "paper")
    (row,) = read_rows(tmp_path / "paper")
    digest = config_digest(flat_config(run_config(plan.runs["x/seed1"])), plan.output)
    environment = row.pop("environment")
    assert row == {
        "plan": "p",
        "name": "x",
        "seed": "0",
        "iterations": "800",
        "seconds": "100",
        "parameters": "218753",
        "a/AP": "50.1234",
        "a/AP50": "80.0000",
        "a/AP75": "",
        "revision": REVISION,
        "config": digest,
    }
    versions = (tmp_path / "paper" / "environments.txt").read_text()
    assert versions == f"== {environment} ==\ntorch 9.9 @<path>/torch\n"


def test_recording_again_replaces_rows_and_keeps_those_of_other_plans(
    plan: Plan, tmp_path: Path
) -> None:
    record_runs(plan, tmp_path)
    record_runs(Plan(plan.output, plan.runs, name="other"), tmp_path)
    versions = (tmp_path / "environments.txt").read_text()
    finish(plan, plan.runs["x/seed0"], ap=60.0)
    finish(plan, plan.runs["x/seed1"], datasets={"a": {"ap": 1.0}, "b": {"ap": 2.0}})
    record_runs(plan, tmp_path)
    rows = read_rows(tmp_path)
    found = [(row["plan"], row["seed"], row["a/AP"], row["b/AP"]) for row in rows]
    assert found == [
        ("p", "0", "60.0000", ""),
        ("other", "0", "50.1234", ""),
        ("p", "1", "1.0000", "2.0000"),
    ]
    assert (tmp_path / "environments.txt").read_text() == versions


@pytest.mark.parametrize("revision", [f"{REVISION} (modified)", "unknown"])
def test_a_run_that_no_commit_has_is_refused_before_anything_is_written(
    plan: Plan, tmp_path: Path, revision: str
) -> None:
    finish(plan, plan.runs["x/seed1"], revision)
    with pytest.raises(ValueError, match=r"x/seed1 was trained from a modified or unknown tree"):
        record_runs(plan, tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_stages_before_the_last_have_columns_of_their_own(plan: Plan) -> None:
    parts = {"first": {**RESULTS, "ap": 40.0}, "second": RESULTS}
    finish(plan, plan.runs["x/seed0"], stages=parts)
    (row,) = rows_of(plan)
    assert (row["first/a/AP"], row["a/AP"]) == ("40.0000", "50.1234")
    assert not any(key.startswith("second/") for key in row)


def test_without_a_test_dataset_a_row_has_no_scores(plan: Plan) -> None:
    finish(plan, plan.runs["x/seed0"], dataset=None)
    (row,) = rows_of(plan)
    assert not any("/" in key for key in row)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("plan,name", "plan,nome"),
        lambda text: text.replace("800", "nan"),
        lambda text: text.replace("50.1234", "half"),
        lambda text: text + "p,y\n",
        lambda text: text + text.splitlines()[1] + "\n",
        lambda text: text[:-5] + '"',
        lambda text: text.replace("x", "\udcff"),
    ],
)
def test_a_damaged_file_of_rows_is_named(plan: Plan, tmp_path: Path, damage: Any) -> None:
    record_runs(plan, tmp_path)
    path = tmp_path / "results.csv"
    before = damage(path.read_text()).encode(errors="surrogateescape")
    path.write_bytes(before)
    with pytest.raises(ValueError, match=r"results.csv is damaged \(.*restore it") as error:
        record_runs(plan, tmp_path)
    assert "\n" not in str(error.value) and path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", '{"ap": 1', '{"ap": 3}', '{"iterations": NaN}'])
def test_damaged_results_of_a_run_are_named(plan: Plan, text: str) -> None:
    path = plan.runs["x/seed0"].folder / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="results.json is damaged .* move") as error:
        rows_of(plan)
    assert "\n" not in str(error.value)

"""What pages claim is what was recorded, and the plans still say how it was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments import load_plan, tables_in, update_tables
from experiments.records import Row, read_rows
from experiments.run_state import config_digest, flat_config, run_config
from helpers.recipes import ROOT

PROJECTS = sorted(path.parent for path in (ROOT / "projects").glob("*/plans"))
PAGES = [ROOT / "README.md", *(ROOT / "projects").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_tables_of_a_page_are_those_of_the_recorded_runs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    marked = [sum(x.startswith(m) for x in lines) for m in ("<!-- table ", "<!-- end of table")]
    assert marked == [len(tables_in(text))] * 2
    assert text == update_tables(text), "run scripts/experiment.py tables with --write"


@pytest.mark.parametrize("folder", PROJECTS, ids=name_of)
def test_a_recorded_run_has_the_config_that_its_plan_makes_today(folder: Path) -> None:
    rows: dict[tuple[str, str], Row] = {}
    for row in read_rows(folder):
        other = rows.setdefault((row["plan"], row["name"]), row)
        assert other["config"] == row["config"], "seeds of a run share a config"
    assert rows
    plans = {name: load_plan(folder / "plans" / f"{name}.yaml") for name, _ in rows}
    for (name, run_name), row in rows.items():
        run = plans[name].runs[f"{run_name}/seed{row['seed']}"]
        digest = config_digest(flat_config(run_config(run)), plans[name].output)
        assert digest == row["config"], run.id


@pytest.mark.parametrize("folder", PROJECTS, ids=name_of)
def test_the_environment_of_every_row_is_kept(folder: Path) -> None:
    known = (folder / "environments.txt").read_text(encoding="utf-8")
    assert all(f"== {row['environment']} ==" in known for row in read_rows(folder))


def test_the_projects_stay_small() -> None:
    files = [path for path in (ROOT / "projects").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix != ".pyc") < 400_000

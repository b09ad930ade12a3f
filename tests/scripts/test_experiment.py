"""The command: records and tables, and its one sentence where it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import experiment
import pytest

PLAN = """
output: {folder}/runs
config: configs/digits/faster_rcnn_student.yaml
seeds: [0]
runs: [{{name: alone}}]
columns: {{AP: a/AP}}
groups: {{short: {{alone: student alone}}}}
"""
RESULTS = {"ap": 5.0, "params_m": 1.0, "iterations": 8, "train_seconds": 2.0, "dataset": "a"}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan whose only run is finished."""
    path = tmp_path / "paper" / "plans" / "results.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PLAN.format(folder=tmp_path))
    folder = tmp_path / "runs" / "alone" / "seed0"
    folder.mkdir(parents=True)
    (folder / "model_final.pth").touch()
    (folder / "config.yaml").write_text("SEED: 0\n")
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "env.txt").write_text(f"git revision: {40 * 'a'}\ntorch 9.9\n")
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["experiment.py", *map(str, arguments)])
    experiment.main()


@pytest.mark.parametrize("word", ["record", "export"])
def test_what_was_recorded_fills_the_tables_of_a_page(
    plan: Path, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, word, plan)
    page = plan.parents[1] / "README.md"
    page.write_text(f"<!-- table {plan}: short -->\n\nold\n\n<!-- end of table -->\n")
    call(monkeypatch, "tables", page.parent)
    printed = capsys.readouterr().out
    assert "1 runs recorded" in printed and "| student alone" in printed
    assert "old" in page.read_text()
    call(monkeypatch, "tables", page, "--write")
    assert "old" not in page.read_text() and "| student alone" in page.read_text()


def test_a_modified_tree_ends_the_command_with_one_sentence(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (environment,) = plan.parents[2].glob("runs/alone/*/env.txt")
    environment.write_text(f"git revision: {40 * 'a'} (modified)\ntorch 9.9\n")
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, "record", plan)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: alone/seed0 was trained from a modified or unknown tree")

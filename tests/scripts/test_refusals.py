"""What the programs beside training are given wrongly ends in status 2 and one sentence."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import analyze
import demo
import experiment
import export_student
import list_keys
import pytest
from benchmark import command as benchmark

import distill.data.__main__ as make_data
from distill.data import digits

ROOT = Path(__file__).parents[2]
DIGITS = "configs/digits/faster_rcnn_student.yaml"
PLAN = "projects/TADF/plans/demo.yaml"


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(logging, "raiseExceptions", False)


def refusal(capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]) -> str:
    """The last line that a program writes, whose status is 2."""
    with pytest.raises(SystemExit) as left:
        if name in ("analyze", "export_student", "benchmark"):
            module = {"analyze": analyze, "benchmark": benchmark}.get(name, export_student)
            module.main(module.parser().parse_args(arguments))
        else:
            {"experiment": experiment, "demo": demo, "list_keys": list_keys}[name].main(arguments)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            f"analyze --config-file {DIGITS} --input-size 64x64 --num-proposals -1",
            "--num-proposals",
        ),
        (f"analyze --config-file {DIGITS} --input-size 64xnan", "--input-size"),
        ("analyze --config-file {file} --input-size 64x64", "{file}"),
        ("export_student --config-file {c} --weights w --output {file}/a.safetensors", "--output"),
        ("export_student --config-file {c} --weights w --output a.pth", "--output a.pth"),
        (
            "export_student --config-file {c} --weights w --output a.safetensors --format plain",
            "--output a.safetensors",
        ),
        (
            "export_student --config-file {c} --weights {file} --output {file} --format plain",
            "--output {file} is {file}, which is read",
        ),
        ("benchmark --rounds 0", "--rounds is 0"),
        ("benchmark --threads -1", "--threads is -1"),
        ("benchmark --batch-size 0", "--batch-size is 0"),
        ("benchmark --device warp", "--device warp"),
        ("benchmark --json {file}/bench.json", "--json: {file} is no folder"),
        ("benchmark --json {folder}", "--json {folder} is a folder"),
        (f"experiment run {PLAN} --jobs 0", "--jobs is 0"),
        (f"experiment run {PLAN} --only nobody", "The plan has no run nobody"),
        (f"experiment run {PLAN} --output {{file}}/x", "--output: {file} is no folder"),
        (f"experiment record {PLAN} {{file}}", "The folder of results.csv: {file} is no folder"),
        ("experiment table {file}", "{file}: the plan is no mapping"),
        ("experiment table {folder}", "The plan {folder} does not exist"),
        ("experiment tables {folder}/no.md", "{folder}/no.md"),
        ("demo --output {file}/x", "--output: {file} is no folder"),
        ("demo --output {file}", "--output: {file} is no folder"),
        ("list_keys --output x", "--output"),
    ],
)
def test_it_is_one_sentence_that_names_option_or_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, said: str
) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "new").mkdir()
    places = {"file": str(tmp_path / "file"), "folder": str(tmp_path / "new"), "c": DIGITS}
    name, *arguments = command.format(**places).split()
    assert said.format(**places) in refusal(capsys, name, arguments)
    assert (tmp_path / "file").read_text() == "kept" and not list((tmp_path / "new").iterdir())


def test_a_script_that_a_plan_names_must_be_one_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"output: {tmp_path}/out\nconfig: {DIGITS}\nseeds: [0]\nruns: [{{name: x}}]\n"
    for change, said in (
        ("script: other.py", "other.py of the plan"),
        ("config: no.yaml", "x/seed0"),
    ):
        key = change.split(":")[0]
        lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
        (tmp_path / "plan.yaml").write_text("\n".join([*lines, change]))
        line = refusal(capsys, "experiment", ["run", str(tmp_path / "plan.yaml")])
        assert said in line and line.startswith("error: ")


def test_data_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "file"))
    monkeypatch.setattr(digits, "load_sources", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        make_data.main([])
    assert left.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert (
        line.startswith("error: digits_train cannot be written") and "DETECTRON2_DATASETS" in line
    )


def test_the_programs_end_so_as_processes_too(tmp_path: Path) -> None:
    script = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / "experiment.py")]
    done = subprocess.run(
        [*script, "table", str(tmp_path / "none.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: The plan")
    assert len(done.stderr.splitlines()) == 1

"""The demo from end to end, with a few iterations on a few images."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distill.data.digits import SPLITS, prepare_split

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"
NAMES = ["teacher", "student_alone", "student_tadf"]
IMAGES = {"digits_train": 6, "digits_val": 2, "digits_test": 3}


def run_demo(output: Path, datasets: Path) -> str:
    env = {
        **os.environ,
        "DETECTRON2_DATASETS": str(datasets),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, str(SCRIPT), "--fast", "--output", str(output)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(300)  # five processes, on a machine that may be busy
def test_the_demo_makes_results_and_a_page_and_repeats_no_training(tmp_path: Path) -> None:
    datasets = tmp_path / "datasets"
    for name, number in IMAGES.items():
        split = dataclasses.replace(SPLITS[name], num_images=number)
        prepare_split(name, datasets / "digits-v1", split)
    output = tmp_path / "demo"

    printed = run_demo(output, datasets)

    assert all(name in printed for name in NAMES)
    assert str(output / "index.html") in printed
    results = json.loads((output / "results.json").read_text())
    assert [row["name"] for row in results] == NAMES
    for row in results:
        assert list(row) == ["name", "ap", "ap50", "ap75", "params_m", "train_seconds", "seed"]
        assert row["train_seconds"] > 0
    assert [round(row["params_m"], 2) for row in results] == [2.2, 0.22, 0.22]
    page = (output / "index.html").read_text()
    assert all(f"<td>{name}</td>" in page for name in NAMES)
    assert "projects/TADF/README.md" in page
    # Three images for four columns, and curves; nothing comes from elsewhere.
    assert page.count("data:image/png;base64,") == 12
    assert page.count("data:image/svg+xml;base64,") >= 2
    assert not re.search(r'(?:src|href)="(?!data:)', page)

    consoles = {path: path.read_bytes() for path in output.rglob("console.txt")}
    assert len(consoles) == 3
    run_demo(output, datasets)
    assert {path: path.read_bytes() for path in consoles} == consoles

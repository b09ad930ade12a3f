"""The runner: what fails is explained, what is interrupted goes on, what is finished stays."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from experiments.plan import Plan, load_plan
from experiments.run_state import read_results
from experiments.runner import CONSOLE_FILE, RunFailed, run_plan

from distill.data.digits import SPLITS, prepare_split

ROOT = Path(__file__).parents[3]
TINY = {
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 60,
    "SOLVER.CHECKPOINT_PERIOD": 5,
    "DATASETS.TEST": "()",
    "MODEL.DEVICE": "cpu",
}


@pytest.fixture(autouse=True)
def _small_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "datasets" / "digits-v1"
    split = dataclasses.replace(SPLITS["digits_train"], num_images=6)
    prepare_split("digits_train", root, split)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write_plan(folder: Path, runs: list[dict]) -> Path:
    content = {
        "output": str(folder / "runs"),
        "config": str(ROOT / "configs" / "digits" / "faster_rcnn_student.yaml"),
        "opts": [item for pair in TINY.items() for item in pair],
        "seeds": [0],
        "runs": runs,
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run_all(plan: Plan, **options: bool) -> None:
    run_plan(plan, plan.select(), progress=False, **options)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while not path.exists():
        assert process.poll() is None, "the runner ended too early"
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_runner_is_continued_by_the_next(tmp_path: Path, number: signal.Signals) -> None:
    path = write_plan(tmp_path, [{"name": "only"}])
    run = load_plan(path).runs["only/seed0"]
    command = [sys.executable, str(ROOT / "scripts" / "experiment.py"), "run", str(path)]
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(run.folder / "last_checkpoint", runner)
    runner.send_signal(number)
    assert runner.wait(timeout=30) != 0

    run_all(load_plan(path))

    assert read_results(run)["iterations"] == 60
    starts = (run.folder / "log.txt").read_text().count("Starting training from iteration")
    # SIGKILL leaves the training process to end its work; a second one must not join it.
    assert starts == (2 if number == signal.SIGTERM else 1)


def test_a_failure_shows_its_log_and_stops_only_what_needs_it(tmp_path: Path) -> None:
    runs = [
        {"name": "broken", "opts": ["MODEL.WEIGHTS", "nowhere.pth"]},
        {"name": "dependent", "needs": ["broken/seed0"]},
        {"name": "sound", "opts": ["SOLVER.MAX_ITER", 2]},
    ]
    plan = load_plan(write_plan(tmp_path, runs))
    with pytest.raises(RunFailed) as error:
        run_all(plan)
    message = str(error.value)
    assert str(plan.runs["broken/seed0"].folder / CONSOLE_FILE) in message
    assert "nowhere.pth does not exist" in message
    assert "dependent/seed0 was not run: it needs broken/seed0" in message
    assert read_results(plan.runs["sound/seed0"])["iterations"] == 2

    written = (plan.runs["sound/seed0"].folder / CONSOLE_FILE).read_bytes()
    longer = [{"name": "sound", "opts": ["SOLVER.MAX_ITER", 3]}]
    run_all(load_plan(write_plan(tmp_path, runs[2:])))
    assert (plan.runs["sound/seed0"].folder / CONSOLE_FILE).read_bytes() == written
    changed = load_plan(write_plan(tmp_path, longer))
    with pytest.raises(ValueError, match="SOLVER.MAX_ITER was 2 and is 3"):
        run_all(changed)
    run_all(changed, replace_changed=True)
    assert read_results(changed.runs["sound/seed0"])["iterations"] == 3


def test_a_wrong_config_is_refused_before_anything_runs(tmp_path: Path) -> None:
    runs = [{"name": "sound"}, {"name": "wrong", "opts": ["SOLVER.MAX_ITRE", 2]}]
    plan = load_plan(write_plan(tmp_path, runs))
    with pytest.raises(ValueError, match="SOLVER.MAX_ITRE"):
        run_all(plan)
    assert not plan.output.exists()

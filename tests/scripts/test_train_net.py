from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import train_net
from safetensors.torch import save_file

from distill.engine import training_parser

_SCRIPT = train_net.__file__
_TINY_DATA = ("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)")


def _run_here(root: Path, output: Path, *arguments: str) -> None:
    flags = [x for x in arguments if x.startswith("--")]
    options = [x for x in arguments if not x.startswith("--")]
    command = ["--config-file", str(root / "tiny.yaml"), *flags, *_TINY_DATA]
    args = training_parser().parse_args([*command, "OUTPUT_DIR", str(output), *options])
    train_net.main(args)


def _start(root: Path, *arguments: str, outputs: Any = subprocess.PIPE) -> subprocess.Popen:
    environment = {
        **os.environ,
        "DETECTRON2_DATASETS": str(root),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, _SCRIPT, "--config-file", str(root / "tiny.yaml")]
    return subprocess.Popen(
        [*command, "--num-gpus", "0", *arguments],
        env=environment,
        stdout=outputs,
        stderr=outputs,
        text=True,
    )


def _finish(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=110)
    assert process.returncode == 0, errors
    return output


@pytest.fixture(scope="module")
def two_machines(tiny_coco, tmp_path_factory) -> tuple[Path, list[str]]:
    """The run directory of two processes, one a machine, and what they print."""
    folder = tmp_path_factory.mktemp("machines")
    url = (folder / "rendezvous").as_uri()
    machines = ("--num-machines", "2", "--dist-url", url, "--machine-rank")
    options = ("OUTPUT_DIR", str(folder / "run"), "SOLVER.MAX_ITER", "2")
    processes = [_start(tiny_coco, *machines, str(rank), *options) for rank in (0, 1)]
    return folder / "run", [_finish(process) for process in processes]


def test_two_machines_train_and_evaluate(two_machines):
    folder, (main, other) = two_machines
    assert "bbox" in main.partition("Results")[2]
    assert "Results" not in other
    assert (folder / "model_final.pth").exists()
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"


def test_two_processes_of_one_machine_resume(tiny_coco, two_machines):
    folder, _ = two_machines
    options = ("OUTPUT_DIR", str(folder), "SOLVER.MAX_ITER", "3")
    output = _finish(_start(tiny_coco, "--resume", "--num-processes", "2", *options))
    assert "Starting training from iteration 2" in output
    assert "bbox" in output.partition("Results")[2]
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"


def test_a_run_leaves_its_config_log_metrics_and_environment(tiny_coco, tmp_path, capsys):
    _run_here(tiny_coco, tmp_path, "SOLVER.MAX_ITER", "1")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.json", "env.txt", "model_final.pth"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "Results" in capsys.readouterr().out


def test_evaluation_alone_gives_what_training_ended_with(tiny_coco, tmp_path, capsys):
    _run_here(tiny_coco, tmp_path, "SOLVER.MAX_ITER", "1")
    trained = capsys.readouterr().out.partition("Results")[2]
    weights = str(tmp_path / "model_final.pth")
    _run_here(tiny_coco, tmp_path / "other", "--eval-only", "MODEL.WEIGHTS", weights)
    assert capsys.readouterr().out.partition("Results")[2] == trained
    _run_here(tiny_coco, tmp_path, "--eval-only", "--resume")
    assert capsys.readouterr().out.partition("Results")[2] == trained


def test_weights_that_do_not_fill_the_detector_are_not_evaluated(
    tiny_coco, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    _run_here(tiny_coco, tmp_path, "SOLVER.MAX_ITER", "1")
    trained = capsys.readouterr().out.partition("Results")[2]
    weights = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    # As other programs write the same weights.
    path = str(tmp_path / "plain.safetensors")
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    _run_here(tiny_coco, tmp_path / "other", "--eval-only", "MODEL.WEIGHTS", path)
    assert capsys.readouterr().out.partition("Results")[2] == trained
    backbone = {key: value for key, value in weights.items() if key.startswith("backbone.")}
    torch.save({"state_dict": backbone}, tmp_path / "backbone.pth")
    arguments = ("--eval-only", "MODEL.WEIGHTS", str(tmp_path / "backbone.pth"))
    with pytest.raises(SystemExit) as left:
        _run_here(tiny_coco, tmp_path / "other", *arguments)
    assert left.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: MODEL.WEIGHTS: ") and "% of the detector's" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--eval-only",), "--eval-only has no weights to evaluate"),
        (("MODEL.WEIGHTS", "nowhere.pth"), "nowhere.pth does not exist"),
        (("DATASETS.TRAIN", "('coco_2018',)"), "DATASETS.TRAIN"),
        (("SOLVER.OPTIMIZER", "Lion"), "SOLVER.OPTIMIZER"),
        (("--eval-teacher",), "DISTILL.TEACHER.CONFIG_FILE"),
        (("DATASETS.TRIAN", "()"), "DATASETS.TRIAN"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    tiny_coco, tmp_path, capsys, monkeypatch, arguments, message
):
    # Detectron2's console handlers keep the first test's standard output, which pytest closed.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with pytest.raises(SystemExit) as left:
        _run_here(tiny_coco, tmp_path, *arguments)
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def _truncate_an_image(root: Path, folder: Path) -> Path:
    """A copy of the datasets with an image whose head is whole; returns its folder."""
    shutil.copytree(root, folder)
    image = folder / "coco" / "train2017" / "5.png"
    image.write_bytes(image.read_bytes()[:-400])
    return folder


def test_a_process_that_fails_in_training_speaks_for_all(tiny_coco, tmp_path):
    root = _truncate_an_image(tiny_coco, tmp_path / "data")
    options = ("SOLVER.MAX_ITER", "20", "DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path / "run"))
    process = _start(root, "--num-processes", "2", *options)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 2
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "Iteration " in said[0] and "5.png" in said[0], errors
    assert "Traceback" not in errors
    logs = "".join(path.read_text() for path in (tmp_path / "run").glob("log.txt*"))
    assert "Traceback" in logs and said[0].removeprefix("error: ") in logs


def test_a_signal_to_the_launcher_saves_once_all_have_ended_their_iteration(tiny_coco, tmp_path):
    options = ("SOLVER.MAX_ITER", "5000", "DATASETS.TEST", "()", "SOLVER.CHECKPOINT_PERIOD", "2")
    with open(tmp_path / "said", "w") as said:
        arguments = ("--num-processes", "2", *options, "OUTPUT_DIR", str(tmp_path))
        process = _start(tiny_coco, *arguments, outputs=said)
        _await(tmp_path / "last_checkpoint")
        process.terminate()
        assert process.wait(timeout=100) == 128 + signal.SIGTERM
    text = (tmp_path / "said").read_text()
    assert "Traceback" not in text and "error: " not in text
    name = (tmp_path / "last_checkpoint").read_text()
    assert f"SIGTERM ended the run after iteration {int(name[6:13])}, which {name} holds" in text
    assert (tmp_path / name).exists() and not list(tmp_path.glob(".*.unfinished"))


def _await(file: Path) -> None:
    """Waits until a run has written a file."""
    for _ in range(3000):
        if file.exists() and file.stat().st_size:
            return
        time.sleep(0.1)
    raise AssertionError(f"{file} does not come")


def test_the_script_is_short():
    assert len(Path(_SCRIPT).read_text().splitlines()) < 120

"""The script as a user runs it: processes, interruptions, and sentences instead of tracebacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pseudo_label
import pytest
from helpers import tiny_labeling
from helpers.tiny_labeling import CLASSES, plan

from distill.labeling.generate import generate

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / "pseudo_label.py")]
# The script on a disk that never answers for one image.
_STUCK_RUN = """
import sys, time
import pseudo_label
from distill.labeling import images

read = images.read_image

def wait_for_ever(path, mode):
    while path == sys.argv[1]:
        time.sleep(1)
    return read(path, mode)

images.read_image = wait_for_ever
pseudo_label.main(sys.argv[2:])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_labeling.teacher(tmp_path / "teacher")
    tiny_labeling.write_noise(tmp_path / "images", 20)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def arguments(folder: Path, output: str = "out", *more: str) -> list[str]:
    teacher = folder / "teacher"
    return [
        "generate",
        *("--config-file", str(teacher / "teacher.yaml")),
        *("--weights", str(teacher / "teacher.pth")),
        *("--images", str(folder / "images")),
        *("--output", str(folder / output)),
        *("--classes", *CLASSES),
        *("--num-gpus", "0", "--batch-size", "2"),
        *more,
    ]


def test_a_killed_run_goes_on_with_other_processes_to_the_same_bytes(folder: Path) -> None:
    generate(plan(folder, output=str(folder / "whole"), batch_size=2))
    names = sorted(path.name for path in (folder / "images").iterdir())
    stuck = [sys.executable, "-W", "ignore", "-c", _STUCK_RUN, str(folder / "images" / names[8])]
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    killed = subprocess.Popen(
        [*stuck, *arguments(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    shard = folder / "out" / "shards" / "shard-0000.jsonl"
    deadline = time.monotonic() + 120
    while not shard.exists() or shard.read_bytes().count(b"\n") < 4:
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    # It might as well have been in the middle of a line.
    with open(shard, "ab") as stream:
        stream.write(b'{"chunk": 4, "counts": [2, 18')
    # What is labeled is not even looked at again.
    for name in names[:8]:
        (folder / "images" / name).write_text("no image")
    done = subprocess.run(
        [*SCRIPT, *arguments(folder, "out", "--num-processes", "2")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = folder / "out" / "pseudo.json"
    assert result.read_bytes() == (folder / "whole" / "pseudo.json").read_bytes()
    assert f"{result}: 20 images" in done.stdout
    # The bar began with the eight images that were there.
    assert "8/20" in done.stderr and "20/20" in done.stderr
    files = {"pseudo.json", "generate.json", ".lock"}
    assert {path.name for path in result.parent.iterdir()} == files


def test_a_finished_run_is_not_done_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = plan(folder, batch_size=2)
    generate(job)
    before = job.result.stat().st_mtime_ns
    # Of a run that was stopped at its very end.
    job.shards.mkdir()
    pseudo_label.main(arguments(folder))
    assert capsys.readouterr().out.startswith(f"Already done. {job.result}: 20 images, ")
    assert job.result.stat().st_mtime_ns == before and not job.shards.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--images", "no/folder"], "--images no/folder is no folder"),
        (["--weights", "no.pth"], "--weights: there is no file no.pth"),
        (["--weights", __file__], "damaged or is not a checkpoint"),
        (["--config-file", "no.yaml"], "--config-file no.yaml does not exist"),
        (["--thresholds", "no.json"], "no.json does not exist"),
        (["--num-machines", "2"], "--num-machines needs --dist-url"),
        (["--opts", "MODEL.NOTHING", "1"], "MODEL.NOTHING"),
        (["--classes", "ant", "bee"], "predicts 3 classes, but 2 names are known"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as left:
        pseudo_label.main([*arguments(folder), *change])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    "change",
    [
        ["--batch-size", "0"],
        ["--score-floor", "1.5"],
        ["--score-floor", "nan"],
        ["--num-gpus", "-1"],
        ["--precision", "int8"],
        ["--dataset", "digits_train"],
    ],
)
def test_impossible_values_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], change: list[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        pseudo_label.main([*arguments(folder), *change])
    assert left.value.code == 2 and change[0] in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pseudo_label.generate, "run", interrupt)
    with pytest.raises(SystemExit) as left:
        pseudo_label.main(arguments(folder))
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"


def test_every_command_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        pseudo_label.main(["--help"])
    assert left.value.code == 0
    listed = capsys.readouterr().out
    for name in ("generate", "calibrate", "merge", "complete", "split", "view"):
        assert f"\n    {name}" in listed
        with pytest.raises(SystemExit):
            pseudo_label.main([name, "--help"])
        usage = capsys.readouterr().out.splitlines()[0]
        assert usage.startswith("usage: ") and f" {name} " in usage

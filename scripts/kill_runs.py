#!/usr/bin/env python
"""Kills trainings at random moments, resumes them, and compares them with runs that were not.

    kill_runs.py --kills 20 --report docs/reference/interruptions.md
    kill_runs.py --kills 5 --only retinanet fcos

Every kind of run is a short training of train_net.py on a few built-in digits, with a teacher of
random weights where it distills. A kill is SIGKILL, at a moment drawn uniformly over the run's
duration; every fourth comes while a file is being written. Then the same command goes on with
--resume. The run is lost if a weight, a buffer or a number of the optimizer's state differs from
the uninterrupted run's by a single bit. A process starts as a fork of this one, which has imported
everything and run nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import torch
import train_net
from kill_runs_kinds import KINDS, Kind, write_data
from torch.multiprocessing import start_processes

from distill.engine import training_parser
from distill.utils.launch import _worker

_ROOT = Path(__file__).resolve().parents[1]
# Seconds after which a run hangs.
_LIMIT = 600.0


@dataclass
class Tally:
    """What the kills of one kind of run came to.

    Attributes:
        seconds: of the uninterrupted run.
        iterations: that were complete when a run was killed, of which a checkpoint was left.
        writing: kills while a file was written.
        lost: how many runs ended with other weights than the uninterrupted one.
    """

    seconds: float = 0.0
    iterations: list[int] = field(default_factory=list)
    writing: int = 0
    lost: int = 0

    def row(self, name: str) -> str:
        """A line of the report's table."""
        started = [x for x in self.iterations if x >= 0]
        span = f"{min(started)} to {max(started)}" if started else "none"
        before = len(self.iterations) - len(started)
        cells = (name, len(self.iterations), self.writing, before, span, self.lost)
        return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Runs all kinds and prints, or writes, the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of every kind of run")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--report", type=Path, help="file whose table is replaced")
    args = parser.parse_args()
    os.chdir(_ROOT)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(prefix="kill-runs-") as folder:
        data = write_data(Path(folder, "data"))
        for name in args.only:
            tally = kill_kind(KINDS[name], data, Path(folder, name), args.kills, args.seed)
            rows.append(tally.row(name))
            print(rows[-1], f"{tally.seconds:.1f} s uninterrupted", flush=True)
            if args.report:
                update_report(args.report, rows)
    sys.exit(any(not row.endswith(" 0 |") for row in rows))


def kill_kind(kind: Kind, data: Path, folder: Path, kills: int, seed: int) -> Tally:
    """Kills runs of one kind.

    Args:
        kind: what is trained.
        data: what :func:`write_data` wrote.
        folder: for its run directories.
        kills: how many.
        seed: of the moments.
    """
    moments, tally = random.Random(f"{seed} {folder.name}"), Tally()
    start = time.monotonic()
    assert run(kind, data, folder / "whole") is None, f"{kind} fails: see {folder}/whole.txt"
    tally.seconds = time.monotonic() - start
    whole = state_of(folder / "whole", kind)
    while len(tally.iterations) < kills:
        number = len(tally.iterations)
        killed = folder / str(number)
        moment = moments.uniform(0, tally.seconds)
        writing = run(kind, data, killed, kill_after=moment, at_write=number % 4 == 3)
        if writing is None:  # It was faster than its kill.
            shutil.rmtree(killed)
            continue
        tally.writing += writing
        tally.iterations.append(last_iteration(killed))
        assert run(kind, data, killed, resume=True) is None, f"see {killed}.txt"
        if different := differences(state_of(killed, kind), whole):
            tally.lost += 1
            print(f"{killed.name}: {len(different)} differ, such as {different[:3]}", flush=True)
        shutil.rmtree(killed)
    return tally


def run(
    kind: Kind,
    data: Path,
    output: Path,
    *,
    resume: bool = False,
    kill_after: float | None = None,
    at_write: bool = False,
) -> bool | None:
    """Runs a training; its output goes to a text file beside the run directory.

    Args:
        kind: what is trained.
        data: see :func:`kill_kind`.
        output: the run directory.
        resume: go on.
        kill_after: seconds after which it is killed.
        at_write: kill it at the next moment after these at which a file is being written.

    Returns:
        None if it ended well, else whether it was killed while writing.
    """
    arguments = [*kind.arguments(data), *(["--resume"] if resume else [])]
    arguments += [*kind.options(data), "OUTPUT_DIR", str(output)]
    output.parent.mkdir(exist_ok=True)
    process = start(kind, arguments, output.with_suffix(".txt"))
    began = time.monotonic()
    while True:
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            assert status == 0, output.with_suffix(".txt").read_text()[-3000:]
            return None
        passed = time.monotonic() - began
        assert passed < _LIMIT, f"{output} hangs"
        is_due = kill_after is not None and passed > kill_after
        if is_due and (not at_write or is_writing(output)):
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return is_writing(output)
        time.sleep(0.0005 if is_due else 0.005)


def start(kind: Kind, arguments: list[str], log: Path) -> int:
    """Starts a training in a process group of its own; returns the process."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    with open(log, "ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    status = 1
    try:
        train(kind, training_parser().parse_args(arguments))
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def train(kind: Kind, args: argparse.Namespace) -> None:
    """Trains in this process or in several; the launcher would not fork, but start these anew."""
    if kind.processes == 1:
        train_net.main(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = Path(folder, "rendezvous").as_uri()
        start_processes(_worker, (train_net.main, args, url), kind.processes, start_method="fork")


def is_writing(output: Path) -> bool:
    """Whether a run directory holds an unfinished file."""
    return any(output.rglob(".*.unfinished"))


def last_iteration(output: Path) -> int:
    """Of the newest checkpoint that a run goes on from; -1 without one."""
    noted = [x.read_text() for x in output.rglob("last_checkpoint")]
    return max((int(name.removesuffix(".pth").rpartition("_")[2]) for name in noted), default=-1)


def state_of(output: Path, kind: Kind) -> dict[str, object]:
    """All that a finished run leaves, by file and key."""
    folders = [output / name for name in kind.folders]
    files = [file for folder in folders for file in sorted(folder.glob("*.pth"))[-2:]]
    found = {}
    for file in files:
        content = torch.load(file, weights_only=True)
        content = {key: content[key] for key in ("model", "trainer") if key in content}
        # How long the steps took is no part of it.
        content.get("trainer", {}).pop("hooks", None)
        found |= {f"{file.relative_to(output)} {k}": v for k, v in flat(content).items()}
    assert any(" model." in key for key in found) and any("optimizer" in key for key in found)
    return found


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """The leaves of nested containers by path."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {prefix: value}
    return {k: v for key, x in items for k, v in flat(x, f"{prefix}.{key}".strip(".")).items()}


def differences(first: dict[str, object], second: dict[str, object]) -> list[str]:
    """Where two runs are not the same, bit for bit."""
    both = first.keys() & second.keys()
    return sorted(first.keys() ^ second.keys()) + [
        key
        for key in sorted(both)
        if not (
            torch.equal(first[key], second[key])
            if isinstance(first[key], torch.Tensor)
            else first[key] == second[key]
        )
    ]


def update_report(report: Path, rows: list[str]) -> None:
    """Replaces the table of a page."""
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    kept = text.partition("\n| run |")[0].rstrip()
    head = "| run | kills | while writing | before a checkpoint | resumed after iteration | lost |"
    table = "\n".join([head, "|" + "---|" * 6, *rows])
    report.write_text(f"{kept}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

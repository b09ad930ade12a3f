"""Carries tries out, one process each, on one base that is built once.

It is a process of its own because a process in which gradients were computed can fork no other
that computes some. ``python tests/fuzz/server.py SURFACE SEED ...`` shows tries in full.
"""

from __future__ import annotations

import importlib
import json
import random
import re
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    _here = Path(__file__).parents[1]
    sys.path[:0] = [str(_here), str(_here.parent / "scripts"), str(_here.parent)]

import torch

from distill.labeling import commands  # noqa: F401, all that scripts import
from fuzz import base
from fuzz.forks import Ended, in_fork, run_script
from fuzz.judge import Command, Try, Verdict, judge, snapshot

# Seconds; a try takes 0.1 to 1.
LIMIT = 20


class Server:
    """The base, the references, and the tries.

    Attributes:
        folder: where everything is; removed by :meth:`close`.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
        self._references: dict[str, Any] = {}
        proper = self.folder / "proper"
        proper.mkdir()
        ended = in_fork(lambda: base.build(proper) or "built", self.folder / "said", 120)
        if ended.result != "built":
            raise RuntimeError(f"The base could not be built:\n{ended.said}")
        self._proper = snapshot(proper)

    def close(self) -> None:
        """Removes all files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, surface: str, seed: int | str) -> dict[str, Any]:
        """Carries out one try, by its number or its name; plain values for a report."""
        work = self._work_folder()
        module = importlib.import_module(f"fuzz.surfaces.{surface}")
        attempt = self._make(module, surface, seed, work)
        reference = None
        if attempt.expected in ("same", "unharmed"):
            reference = self._reference(attempt.command, module.PROPER[attempt.command.name])
            work = self._work_folder()
            attempt = self._make(module, surface, seed, work)
        attempt.command.prepare(attempt.file, work / "out")
        before = {**snapshot(work), **self._proper}
        ended = self._carry_out(attempt.command, attempt.file, work)
        after = {**snapshot(work), **snapshot(self.folder / "proper")}
        differing = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
        verdict = _verdict(attempt, ended, reference, sorted(differing - {"said"}))
        command = [attempt.command.script, *attempt.command.arguments(attempt.file, work / "out")]
        return {
            "surface": surface,
            "seed": seed,
            "kind": verdict.kind,
            "good": verdict.good,
            "why": verdict.why,
            "what": attempt.what,
            "expected": attempt.expected,
            "command": " ".join(map(str, command)),
            "said": "\n".join(re.sub(r"\x1b\[[\d;]*m", "", ended.said).splitlines()[-12:]),
            "seconds": round(ended.seconds, 3),
        }

    def _make(self, module: Any, surface: str, seed: int | str, work: Path) -> Try:
        proper = self.folder / "proper"
        if isinstance(seed, str):
            return module.make_named(seed, proper, work / "in")
        rng = random.Random(zlib.crc32(f"{surface} {seed}".encode()))
        return module.make(rng, proper, work / "in")

    def _work_folder(self) -> Path:
        work = self.folder / "try"
        shutil.rmtree(work, ignore_errors=True)
        (work / "in").mkdir(parents=True)
        (work / "cwd").mkdir()
        return work

    def _reference(self, command: Command, name: str) -> Any:
        if command.name not in self._references:
            work = self._work_folder()
            file = self.folder / "proper" / name
            command.prepare(file, work / "out")
            ended = self._carry_out(command, file, work)
            if not ended.result or ended.result[0] != 0:
                said = "\n".join(ended.said.splitlines()[-5:])
                raise RuntimeError(f"{command.name} fails on the proper {name}:\n{said}")
            self._references[command.name] = ended.result[1]
        return self._references[command.name]

    def _carry_out(self, command: Command, file: Path, work: Path) -> Ended:
        def live() -> list[Any]:
            import os

            os.chdir(work / "cwd")
            status = run_script(command.script, [*map(str, command.arguments(file, work / "out"))])
            if status:
                return [status, None]
            said = (work / "said").read_text(errors="replace")
            return [status, command.observe(work / "out", file, said)]

        return in_fork(live, work / "said", LIMIT)


def _verdict(attempt: Try, ended: Ended, reference: Any, changed: list[str]) -> Verdict:
    if ended.hung:
        return Verdict("hang", f"not done after {LIMIT} s")
    status, observed = ended.result or (None, None)
    return judge(attempt, status, ended.said, observed, reference, changed)


def _serve(server: Server) -> None:
    """Answers lines "SURFACE SEED" with lines of JSON until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(server.run(*_seed(*line.strip().split(maxsplit=1)))), flush=True)


def _seed(surface: str, seed: str) -> tuple[str, int | str]:
    return surface, int(seed) if seed.isdigit() else seed


def _show(server: Server, surface: str, seed: str) -> None:
    begin = time.monotonic()
    for key, value in server.run(*_seed(surface, seed)).items():
        print(f"{key}: {value}")
    print(f"({time.monotonic() - begin:.1f} s)\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    _server = Server()
    try:
        if len(sys.argv) == 1:
            _serve(_server)
        for _name in sys.argv[2:]:
            _show(_server, sys.argv[1], _name)
    finally:
        _server.close()

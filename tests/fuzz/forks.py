"""One try in a process of its own: catalogs, loggers, seeds and hangs end with it."""

from __future__ import annotations

import json
import os
import resource
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Above what the process has: a file that asks for more than this is a file that takes a machine.
MEMORY = 3 << 30


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        result: what its function returned; None if it did not come to return.
        said: what it wrote to standard output and standard error.
        hung: it was stopped at the limit.
        seconds: how long it ran.
    """

    result: Any
    said: str
    hung: bool
    seconds: float


def in_fork(work: Callable[[], Any], said: Path, limit: float) -> Ended:
    """Calls a function in a forked process.

    Args:
        work: returns plain values.
        said: file for what is said.
        limit: seconds until it is stopped with all that it started.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    begin = time.monotonic()
    answer, give = os.pipe()
    child = os.fork()
    if child == 0:
        _live(work, said, give)
    os.close(give)
    result, hung = _wait(child, answer, begin + limit)
    seconds = time.monotonic() - begin
    return Ended(result, said.read_text(errors="replace"), hung, seconds)


def run_script(name: str, arguments: Sequence[str]) -> int:
    """Runs a script as the interpreter does and returns its exit status."""
    path = ROOT / name if name.endswith(".py") else ROOT / "scripts" / f"{name}.py"
    sys.argv = [path.name, *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _live(work: Callable[[], Any], said: Path, give: int) -> None:
    """The child's whole life."""
    os.setpgid(0, 0)
    stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(stream), "w", 1) for _ in range(2))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        result = work()
        with os.fdopen(give, "w") as pipe:
            json.dump(result, pipe)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _wait(child: int, answer: int, deadline: float) -> tuple[Any, bool]:
    pieces, hung = [], False
    while True:
        ready, _, _ = select.select([answer], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            hung = True
            break
        piece = os.read(answer, 1 << 16)
        if not piece:
            break
        pieces.append(piece)
    try:
        # Loader workers too.
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(child, 0)
    os.close(answer)
    return (json.loads(b"".join(pieces)) if pieces and not hung else None), hung

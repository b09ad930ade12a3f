"""Tries of tests/fuzz by the process that carries them out, one for all tests of a process."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_SERVER = Path(__file__).parents[1] / "fuzz" / "server.py"


def carry_out(surface: str, seed: int | str) -> dict[str, Any]:
    """Carries one try out; see tests/fuzz/server.py for what comes back."""
    process = _server()
    process.stdin.write(f"{surface} {seed}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def told(x: dict[str, Any]) -> str:
    """A try that went wrong, for people."""
    lines = [
        f"{x['kind']} in {x['what']} (expected: {x['expected']}): {x['why']}",
        x["command"],
        *x["said"].splitlines()[-4:],
        f'again: .venv/bin/python tests/fuzz/server.py {x["surface"]} "{x["seed"]}"',
    ]
    return "\n    ".join(lines)


@functools.cache
def _server() -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(_SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    atexit.register(_stop, process)
    assert process.stdout.readline() == "ready\n", "the process of the tries did not start"
    return process


def _stop(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.wait(timeout=60)

#!/usr/bin/env python
"""Trains with one process and with two, whose batch together is the same, and compares the weights.

    two_processes.py

Detectors and methods whose losses are means over the whole batch have to agree up to the order of
sums. Batch statistics are frozen, since every process has its own, and nothing is sampled. The
numbers that it printed last stand in docs/reference/interruptions.md.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from kill_runs import run
from kill_runs_kinds import KINDS, Kind, write_data

_ROOT = Path(__file__).resolve().parents[1]
_FROZEN = {
    "MODEL.SLIM.NORM": "FrozenBN",
    "MODEL.FPN.NORM": "FrozenBN",
    "MODEL.ATSS.NORM": "",
    # AdamW divides by the size of gradients, and so magnifies rounding.
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": "0.01",
    "SOLVER.WARMUP_ITERS": "0",
    "SOLVER.CHECKPOINT_PERIOD": "10",
}
_NAMES = ("atss",)
_ITERATIONS = (1, 10)


def main() -> None:
    """Prints a table of the largest differences."""
    os.chdir(_ROOT)
    torch.set_num_threads(1)
    print("| run | iterations | largest change of a weight | largest difference of a weight |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="two-processes-") as folder:
        data = write_data(Path(folder, "data"))
        for name in _NAMES:
            for number in _ITERATIONS:
                own = {**KINDS[name].own, **_FROZEN, "SOLVER.MAX_ITER": str(number)}
                kind = replace(KINDS[name], own=own)
                change, difference = compare(kind, data, Path(folder, f"{name} {number}"))
                print(f"| {name} | {number} | {change:.2g} | {difference:.2g} |", flush=True)


def compare(kind: Kind, data: Path, folder: Path) -> tuple[float, float]:
    """How far training moves a weight at most, and how far two processes are from one."""
    runs = {
        "one": kind,
        "two": replace(kind, processes=2),
        "none": replace(kind, own={**kind.own, "SOLVER.BASE_LR": "1e-12"}),
    }
    final = {}
    for name, each in runs.items():
        assert run(each, data, folder / name) is None
        final[name] = torch.load(folder / name / "model_final.pth", weights_only=True)["model"]
    return _largest(final["one"], final["none"]), _largest(final["one"], final["two"])


def _largest(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    return max((left[key].double() - right[key].double()).abs().max().item() for key in left)


if __name__ == "__main__":
    main()

"""Checkpoints as teacher, as MODEL.WEIGHTS, for evaluation, to resume from, to export, to label."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch

from fuzz import commands
from fuzz.judge import Command, Try
from fuzz.surfaces.checkpoint_mutations import MUTATIONS, written
from fuzz.surfaces.damage import damaged_binary

# What the run of the base names in last_checkpoint; model_final.pth has no state of a training.
_LAST = "model_0000000.pth"


def _run_to_resume(file: Path, out: Path) -> None:
    shutil.copytree(commands.proper(out) / "run", out)
    shutil.copyfile(file, out / _LAST)


def _resumed(out: Path, file: Path, said: str) -> Any:
    return commands.tensors(out, file, said)


COMMANDS = (
    commands.train(
        "weights of the teacher",
        lambda f, b: ["DISTILL.TEACHER.WEIGHTS", str(f)],
        config="TADF_pair",
    ),
    commands.train("MODEL.WEIGHTS", lambda f, b: ["MODEL.WEIGHTS", str(f)], commands.tensors),
    commands.train(
        "evaluated",
        lambda f, b: [
            *("MODEL.WEIGHTS", str(f), "DATASETS.TEST", commands.data(b / "train.json", b)),
        ],
        commands.results,
        flags=("--eval-only",),
    ),
    commands.train(
        "resumed",
        lambda f, b: ["SOLVER.MAX_ITER", "2"],
        _resumed,
        flags=("--resume",),
        prepare=_run_to_resume,
    ),
    Command(
        "exported",
        "export_student",
        lambda f, o: [
            *("--config-file", f"{commands.proper(o)}/student.yaml", "--weights", str(f)),
            *("--format", "plain", "--output", str(o)),
        ],
        commands.tensors,
    ),
    commands.label(
        "generate/weights",
        lambda f, b, o: [
            *("--config-file", f"{b}/teacher.yaml", "--weights", str(f)),
            *("--images", f"{b}/images", "--output", str(o), "--classes", "ant", "bee"),
            *("--num-gpus", "0", "--num-workers", "0"),
        ],
        commands.labeled("pseudo.json"),
    ),
)
_OF_TEACHERS = ("weights of the teacher", "generate/weights")
PROPER = {
    command.name: "teacher.pth" if command.name in _OF_TEACHERS else "student.pth"
    for command in COMMANDS
} | {"resumed": f"run/{_LAST}"}
_WEIGHTS = (3, 3, 4, 3, 2, 1)


def make(rng: random.Random, base: Path, folder: Path) -> Try:
    """A checkpoint with one change, or damaged, for one of the commands."""
    command = rng.choices(COMMANDS, _WEIGHTS)[0]
    proper = base / PROPER[command.name]
    if rng.random() < 0.3:
        what, expected, data = damaged_binary(proper.read_bytes(), rng)
        file = folder / rng.choice(("weights.pth", "weights.pkl"))
        file.write_bytes(data)
        if expected == "either" and command.name == "resumed":
            # It is of our own, and has a checksum.
            expected = "unharmed"
        what = f"{what}, as {file.suffix}"
    else:
        content = torch.load(proper, weights_only=True)
        name = rng.choice(sorted(MUTATIONS))
        what, suffix, expected, content = MUTATIONS[name](content, rng)
        if command.name == "resumed":
            suffix, expected = ".pth", "refused" if expected == "refused" else "either"
        if command.name == "MODEL.WEIGHTS" and name in ("partly", "other_shapes", "not_finite"):
            # What is left out is trained from scratch, and said.
            expected = "either"
        file = folder / f"weights{suffix}"
        written(content, file)
    names = (file.name, _LAST) if command.name == "resumed" else (file.name,)
    return Try(f"{command.name}: {what}", command, file, expected, names)

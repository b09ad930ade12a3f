"""YAML files of students and teachers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from fuzz import commands
from fuzz.judge import Command, Expected, Try
from fuzz.surfaces.damage import ENCODINGS
from fuzz.surfaces.yaml_mutations import MUTATIONS


def _config(out: Path, file: Path, said: str) -> Any:
    """The config of the run, but for its folder, and its losses."""
    cfg = yaml.unsafe_load((out / "config.yaml").read_text())
    del cfg["OUTPUT_DIR"]
    return {"config": str(sorted(cfg.items())), "losses": commands.losses(out, file, said)}


def _said(out: Path, file: Path, said: str) -> str:
    return said.partition("{")[2]


COMMANDS = (
    commands.train("student", lambda f, b: ["--config-file", str(f)], _config),
    commands.train(
        "teacher",
        lambda f, b: ["DISTILL.TEACHER.CONFIG_FILE", str(f)],
        config="TADF_pair",
    ),
    Command(
        "analyze",
        "analyze",
        lambda f, o: ["--config-file", str(f), "--input-size", "48x64", "--json"],
        _said,
    ),
    Command(
        "export",
        "export_student",
        lambda f, o: [
            *("--config-file", str(f), "--weights", f"{commands.proper(o)}/student.pth"),
            *("--format", "plain", "--output", str(o)),
        ],
        commands.tensors,
    ),
    commands.label(
        "generate/config",
        lambda f, b, o: [
            *("--config-file", str(f), "--weights", f"{b}/teacher.pth"),
            *("--images", f"{b}/images", "--output", str(o), "--classes", "ant", "bee"),
            *("--num-gpus", "0", "--num-workers", "0"),
        ],
        commands.labeled("pseudo.json"),
    ),
)
_OF_TEACHERS = ("teacher", "generate/config")
PROPER = {
    command.name: "whole_teacher.yaml" if command.name in _OF_TEACHERS else "whole.yaml"
    for command in COMMANDS
}
# What a sentence may name of a base that is not there.
_BASES = ("nothing.yaml", "a_folder", "config.py", "nobody", "127.0.0.1", ".json")
_WEIGHTS = (6, 4, 2, 2, 2)


def make(rng: random.Random, base: Path, folder: Path) -> Try:
    """A YAML file with one change, itself the config or the base of one."""
    command = rng.choices(COMMANDS, _WEIGHTS)[0]
    text = (base / PROPER[command.name]).read_text()
    file = folder / "config.yaml"
    expected: Expected
    if rng.random() < 0.1:
        what, encoding, expected = rng.choice(ENCODINGS)
        data = text.encode(encoding)
    else:
        what, expected, data = MUTATIONS[rng.choice(sorted(MUTATIONS))](text, rng)
    if what == "NaN for a rate" and command.name != "student":
        expected = "either"
    file.write_bytes(data)
    (folder / "a_folder").mkdir()
    given = file
    if rng.random() < 0.25:
        given = folder / "over.yaml"
        given.write_text("_BASE_: config.yaml\n")
        what += ", as a base"
    # What is said of a file may be about a key of it.
    names = (file.name, given.name, "CONFIG_FILE", "config-file", "_BASE_", *_BASES, *_keys(text))
    return Try(f"{command.name}: {what}", command, given, expected, names, any_key=True)


def _keys(text: str) -> list[str]:
    return sorted({word for word in text.replace(":", " ").split() if word.isupper()})

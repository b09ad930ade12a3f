"""COCO JSON files as TRAIN, as TEST, and as the labels or images of pseudo_label.py's commands."""

from __future__ import annotations

import random
from pathlib import Path

from fuzz import commands
from fuzz.base import coco
from fuzz.judge import Command, Expected, Try
from fuzz.surfaces import coco_ids  # noqa: F401, which adds to them
from fuzz.surfaces.coco_mutations import MUTATIONS
from fuzz.surfaces.damage import ENCODINGS, as_text, damaged

COMMANDS = (
    commands.train("TRAIN", lambda f, b: ["DATASETS.TRAIN", commands.data(f, b)], commands.records),
    commands.train(
        "TEST",
        lambda f, b: ["MODEL.WEIGHTS", f"{b}/student.pth", "DATASETS.TEST", commands.data(f, b)],
        commands.perfect,
        flags=("--eval-only",),
    ),
    commands.label(
        "split",
        lambda f, b, o: ["--labels", f"{f}@{b}/images", "--percent", "100", "--output", str(o)],
        commands.labeled("*_100pct_seed0.json"),
    ),
    commands.label(
        "calibrate",
        lambda f, b, o: [
            *("--pseudo", f"{b}/pseudo.json", "--labels", f"{f}@{b}/images"),
            *("--output", str(o), "--min-boxes", "1"),
        ],
        commands.thresholds,
    ),
    commands.label(
        "complete",
        lambda f, b, o: [
            *("--pseudo", f"{b}/pseudo.json", "--labels", f"{f}@{b}/images"),
            *("--output", f"{o}/complete.json"),
        ],
        commands.labeled("complete.json"),
    ),
    commands.label(
        "generate",
        lambda f, b, o: [
            *("--config-file", f"{b}/teacher.yaml", "--weights", f"{b}/teacher.pth"),
            *("--dataset", f"{f}@{b}/images", "--output", str(o), "--classes", "ant", "bee"),
            *("--num-gpus", "0", "--num-workers", "0", "--force"),
        ],
        commands.labeled("pseudo.json"),
    ),
    commands.label(
        "view",
        lambda f, b, o: [
            *("--pseudo", f"{b}/pseudo.json", "--labels", f"{f}@{b}/images"),
            *("--output", str(o)),
        ],
        commands.page,
    ),
)
PROPER = {command.name: "train.json" for command in COMMANDS}
# Commands that need not look at the images.
_BLIND = ("split", "calibrate", "complete", "view")
# Tries of whole runs are slower: a class that is one of three is rarer than the rest.
_WEIGHTS = (6, 4, 2, 2, 2, 1, 1)


def make(rng: random.Random, base: Path, folder: Path) -> Try:
    """A COCO file with one change, or damaged as text, for one of the commands."""
    command = rng.choices(COMMANDS, _WEIGHTS)[0]
    file = folder / "labels.json"
    content = coco()
    way = rng.choices(("change", "text", "encoding"), (12, 2, 1))[0]
    expected: Expected
    if way == "change":
        name = rng.choice(sorted(MUTATIONS))
        what, expected = MUTATIONS[name](content, rng)
        file.write_bytes(as_text(content))
    elif way == "text":
        name = "text"
        what, expected, text = damaged(as_text(content), rng)
        file.write_bytes(text)
    else:
        name = "encoding"
        what, encoding, expected = rng.choice(ENCODINGS)
        file.write_bytes(as_text(content).decode().encode(encoding, errors="replace"))
    expected = _for_command(name, expected, command)
    return Try(
        f"{command.name}: {what}",
        command,
        file,
        expected,
        (file.name, "--labels"),
        check=_plausible(command),
    )


def _for_command(name: str, expected: Expected, command: Command) -> Expected:
    """What some commands may take, since it is nothing to them."""
    if command.name in _BLIND and name in ("image_missing", "size_swapped", "file_name"):
        return "either" if expected == "refused" else expected
    # A name without classes or without boxes is enough to label images.
    if command.name == "generate" and expected == "refused" and name != "text":
        return "either"
    if name in ("class_added", "no_boxes") and command.name != "TRAIN":
        return "either"
    # There is nothing to complete.
    if name == "no_images" and command.name == "complete":
        return "either"
    return expected


def _plausible(command: Command):
    def check(observed: object) -> str:
        if command.name == "TEST" and isinstance(observed, dict):
            some = any(not box[-1] for row in observed["records"] for box in row[-1])
            if some and observed["AP"] < 99.9:
                return f"perfect boxes have AP {observed['AP']}"
        return ""

    return check

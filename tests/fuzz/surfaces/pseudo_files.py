"""Files of pseudo labels and of thresholds, trained on, merged, completed, calibrated and shown."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from fuzz import commands
from fuzz.base import pseudo
from fuzz.judge import Expected, Try
from fuzz.surfaces import coco_ids  # noqa: F401, which adds to them
from fuzz.surfaces.coco_mutations import MUTATIONS as COCO
from fuzz.surfaces.damage import ENCODINGS, as_text, damaged
from fuzz.surfaces.pseudo_mutations import HEADERS, THRESHOLDS


def _trained_on(out: Path, file: Path, said: str) -> Any:
    return {"boxes": said.partition("boxes above their")[0][-8:], **_first(out, file, said)}


def _first(out: Path, file: Path, said: str) -> Any:
    return {"losses": commands.losses(out, file, said)}


LABELS = (
    commands.train(
        "PSEUDO",
        lambda f, b: ["DATASETS.PSEUDO", f"('{f}',)", "SOLVER.MAX_ITER", "2"],
        _trained_on,
    ),
    commands.label(
        "merge",
        lambda f, b, o: [str(f), f"{b}/other.json", "--output", f"{o}/merged.json"],
        commands.labeled("merged.json"),
    ),
    commands.label(
        "complete/pseudo",
        lambda f, b, o: [
            *("--pseudo", str(f), "--labels", f"{b}/train.json"),
            *("--output", f"{o}/complete.json"),
        ],
        commands.labeled("complete.json"),
    ),
    commands.label(
        "calibrate/pseudo",
        lambda f, b, o: [
            *("--pseudo", str(f), "--labels", f"{b}/train.json"),
            *("--output", str(o), "--min-boxes", "1"),
        ],
        commands.thresholds,
    ),
    commands.label(
        "view/pseudo", lambda f, b, o: ["--pseudo", str(f), "--output", str(o)], commands.page
    ),
)
LIMITS = (
    commands.train(
        "PSEUDO.THRESHOLDS",
        lambda f, b: [
            *("DATASETS.PSEUDO", f"('{b}/pseudo.json',)", "DISTILL.PSEUDO.THRESHOLDS", str(f)),
        ],
        _trained_on,
    ),
    commands.label(
        "merge/thresholds",
        lambda f, b, o: [
            *(f"{b}/pseudo.json", f"{b}/other.json", "--thresholds", str(f), "-"),
            *("--output", f"{o}/merged.json"),
        ],
        commands.labeled("merged.json"),
    ),
    commands.label(
        "complete/thresholds",
        lambda f, b, o: [
            *("--pseudo", f"{b}/pseudo.json", "--labels", f"{b}/train.json"),
            *("--thresholds", str(f), "--output", f"{o}/complete.json"),
        ],
        commands.labeled("complete.json"),
    ),
)
PROPER = {x.name: "pseudo.json" for x in LABELS} | {x.name: "thresholds.json" for x in LIMITS}
# Other commands than training need neither images nor all of a header.
_HEADS = ("image_root", "dataset", "info")
_OF_IMAGES = ("image_missing", "size_swapped", "file_name")
_IDS = ("image_ids", "image_ids_as_text_in_boxes")
# Of boxes that have scores: crowds and truth are another matter.
_OF_LABELS = ("iscrowd", "area", "segmentation", "class_added", "no_boxes", "root_category", "rest")


def make(rng: random.Random, base: Path, folder: Path) -> Try:
    """A file of pseudo labels, or of thresholds, with one change."""
    if rng.random() < 0.2:
        return _thresholds(rng, base, folder)
    command = rng.choices(LABELS, (5, 3, 3, 2, 2))[0]
    file = folder / "found.json"
    content = pseudo(base)
    way = rng.choices(("header", "coco", "text", "encoding"), (6, 5, 2, 1))[0]
    name, expected = way, "either"
    if way == "header":
        name = rng.choice(sorted(HEADERS))
        what, expected = HEADERS[name](content, rng)
    elif way == "coco":
        name = rng.choice(sorted(COCO))
        what, expected = COCO[name](content, rng)
    data = as_text(content)
    if way == "text":
        what, expected, data = damaged(data, rng)
    elif way == "encoding":
        what, encoding, expected = rng.choice(ENCODINGS)
        data = data.decode().encode(encoding)
    file.write_bytes(data)
    if name == "categories_in_another_order" and command.name == "PSEUDO":
        # Which images a batch has depends on their order.
        expected = "either"
    if name in _IDS and command.name != "PSEUDO":
        # Of images that another file has under other ids.
        expected = "either"
    if command.name != "PSEUDO" and name in (*_HEADS, *_OF_IMAGES) or name in _OF_LABELS:
        expected = "either"
    return Try(
        f"{command.name}: {what}", command, file, expected, (file.name, "--pseudo", *_named(base))
    )


def _named(base: Path) -> tuple[str, ...]:
    # A folder that the header names.
    return (f"{base}/images/", "no/folder")


def _thresholds(rng: random.Random, base: Path, folder: Path) -> Try:
    command = rng.choice(LIMITS)
    file = folder / "limits.json"
    content = json.loads((base / "thresholds.json").read_bytes())
    expected: Expected
    if rng.random() < 0.3:
        what, expected, data = damaged(as_text(content), rng)
    else:
        what, expected = THRESHOLDS[rng.choice(sorted(THRESHOLDS))](content, rng)
        data = as_text(content)
    file.write_bytes(data)
    return Try(f"{command.name}: {what}", command, file, expected, (file.name,))

"""Every file, folder and option that a command takes, in each way in which it can be wrong.

A list, not a random draw: a try is named COMMAND:INPUT:WAY.
"""

from __future__ import annotations

from pathlib import Path

from fuzz.judge import Command, Try
from fuzz.surfaces.wrong_input_files import WAYS

# Command -> script and arguments; a word in braces is an input, or {output}.
_TRAIN = "--config-file {config} --num-gpus 0"
_DATA = "DATASETS.TEST ('{labels}@{images}',)"
_TEACHER = "--config-file {config} --weights {weights} --output {folder} --num-gpus 0"
LINES = {
    "train": ("train_net", f"{_TRAIN} MODEL.WEIGHTS {{weights}} OUTPUT_DIR {{folder}}"),
    "train on": ("train_net", f"{_TRAIN} DATASETS.TRAIN ('{{labels}}',) OUTPUT_DIR {{folder}}"),
    "distill": (
        "train_net",
        "--config-file TADF_pair.yaml --num-gpus 0 DISTILL.TEACHER.CONFIG_FILE {config} "
        "DISTILL.TEACHER.WEIGHTS {weights} OUTPUT_DIR {folder}",
    ),
    "train on pseudo labels": (
        "train_net",
        f"{_TRAIN} DATASETS.PSEUDO ('{{pseudo}}',) DISTILL.PSEUDO.THRESHOLDS {{thresholds}} "
        "OUTPUT_DIR {folder}",
    ),
    "two stages": (
        "train_net",
        f"{_TRAIN} --stages DISTILL.FINETUNE.MAX_ITER 1 DATASETS.PSEUDO ('{{pseudo}}',) "
        "OUTPUT_DIR {folder}",
    ),
    "evaluate": (
        "train_net",
        f"{_TRAIN} --eval-only MODEL.WEIGHTS {{weights}} {_DATA} OUTPUT_DIR {{folder}}",
    ),
    "evaluate packed": (
        "train_net",
        "--config-file one_bit.yaml --num-gpus 0 --eval-only MODEL.WEIGHTS {packed} "
        f"{_DATA} OUTPUT_DIR {{folder}}",
    ),
    "export": (
        "export_student",
        "--config-file {config} --weights {weights} --format plain --output {output}",
    ),
    "pack": (
        "export_student",
        "--config-file one_bit.yaml --weights {one_bit} --output {output}.safetensors",
    ),
    "count": ("analyze", "--config-file {config} --input-size 48x64"),
    "generate": ("pseudo_label", f"generate {_TEACHER} --images {{images}} --classes ant bee"),
    "generate of data": (
        "pseudo_label",
        f"generate {_TEACHER} --dataset {{labels}}@images --classes ant bee "
        "--thresholds {thresholds}",
    ),
    "calibrate": (
        "pseudo_label",
        "calibrate --pseudo {pseudo} --labels {labels} --output {folder}",
    ),
    "merge": (
        "pseudo_label",
        "merge {pseudo} other.json --thresholds {thresholds} - --aliases {aliases} "
        "--output {output}",
    ),
    "complete": (
        "pseudo_label",
        "complete --labels {labels} --pseudo {pseudo} --thresholds {thresholds} "
        "--aliases {aliases} --output {output}",
    ),
    "split": ("pseudo_label", "split --labels {labels} --output {folder} --percent 50"),
    "view": ("pseudo_label", "view --pseudo {pseudo} --labels {labels} --output {folder}"),
    "plan": ("experiment", "table {plan}"),
}
# Input -> the proper file of the base.
_PROPER = {
    "config": "whole.yaml",
    "weights": "student.pth",
    "one_bit": "one_bit.pth",
    "packed": "packed.safetensors",
    "labels": "train.json",
    "pseudo": "pseudo.json",
    "thresholds": "thresholds.json",
    "aliases": "aliases.yaml",
    "images": "images",
    "plan": "plan.yaml",
}
# Outputs are wrong where a file stands in the way.
_OUTPUTS = ("folder", "output")


def names() -> list[str]:
    """COMMAND:INPUT:WAY of all, and of each command one that must be taken."""
    proper = [f"{command}::proper" for command in LINES]
    return proper + [
        f"{command}:{given}:{way}"
        for command, (_, line) in LINES.items()
        for given in (*_PROPER, *_OUTPUTS)
        if f"{{{given}}}" in line
        for way in WAYS[given]
    ]


def some_of_each(command: str) -> list[str]:
    """Those of a command: the proper one, and one way for each input, another one a command."""
    turn = list(LINES).index(command)
    chosen = [f"{command}::proper"]
    for given, ways in WAYS.items():
        if f"{{{given}}}" in LINES[command][1]:
            chosen.append(f"{command}:{given}:{list(ways)[turn % len(ways)]}")
    return chosen


def make_named(name: str, base: Path, folder: Path) -> Try:
    """One of :func:`names`."""
    title, given, way = name.split(":")
    script, line = LINES[title]
    file = WAYS[given][way](base / _PROPER.get(given, ""), folder) if given else folder

    def arguments(_: Path, out: Path) -> list[str]:
        places = {key: str(base / value) for key, value in _PROPER.items()}
        places |= {"folder": str(out), "output": f"{out}/written", given: str(file)}
        words = [word.format(**places) for word in line.split()]
        return [_below(base, word) for word in words]

    command = Command(name, script, arguments, lambda out, file, said: None, logs=True)
    if not given:
        return Try(name, command, file, "taken", ())
    return Try(name, command, file, "refused", (file.name, str(file), _option(line, given)))


def _option(line: str, given: str) -> str:
    """The option or key that an input stands behind."""
    words = line.split()
    place = next(i for i, word in enumerate(words) if f"{{{given}}}" in word)
    return words[place - 1]


def _below(base: Path, word: str) -> str:
    """A file of the base that a line names without its folder."""
    for suffix in (".yaml", ".json"):
        if word.endswith(suffix) and "/" not in word:
            return str(base / word)
    return word.replace("@images", f"@{base}/images")

"""Every key of the tree, ours and Detectron2's, at values that it may not have, or may."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

from distill import add_distill_config
from fuzz import commands
from fuzz.judge import Try
from fuzz.surfaces.key_values import value_for

PROPER: dict[str, str] = {}
# Method -> the pair that runs it; the rest of DISTILL is read by any.
_METHODS = ("TADF", "BCKD", "LD", "PKD", "IDaDet", "ADL")
# Theirs are what the tries are about: a folder, a machine, and how long a run is.
_LEFT_OUT = ("OUTPUT_DIR", "VERSION", "SOLVER.MAX_ITER", "TEST.PRECISE_BN.NUM_ITER")


def make(rng: random.Random, base: Path, folder: Path) -> Try:
    """One key at one value, on the command line or in a file, in training or evaluation."""
    key, default = rng.choice(_keys(rng.random() < 0.5))
    if rng.random() < 0.15:
        key, value, expected = _misspelled(key, rng), default, "refused"
    else:
        value, expected = value_for(key, default, rng)
    in_file = not _survives_command_line(value) or rng.random() < 0.3
    flags: list[str] = []
    if in_file:
        config = folder / "overlay.yaml"
        tree = functools.reduce(lambda inner, part: {part: inner}, reversed(key.split(".")), value)
        own = yaml.safe_dump({"_BASE_": f"{base}/{_pair(key, rng)}.yaml"})
        config.write_text(own + yaml.safe_dump(tree))
    else:
        config = base / f"{_pair(key, rng)}.yaml"
        flags = [key, str(value)]
    evaluate = key.startswith("TEST.") or (not key.startswith("DISTILL") and rng.random() < 0.2)
    given = ["--config-file", str(config), *(["--eval-only"] if evaluate else [])]
    if evaluate:
        data = ["DATASETS.TEST", commands.data(base / "train.json", base)]
        flags = ["MODEL.WEIGHTS", f"{base}/{config_weights(config)}.pth", *data, *flags]
    where = "in a file" if in_file else "on the command line"
    command = commands.train("keys", lambda f, b: [*given, *flags], functools.partial(_seen, key))
    # Of Detectron2's keys, its constructors complain about several together.
    theirs = not key.startswith("DISTILL")
    names = (key.rpartition(".")[2], key, config.name)
    what = f"{key} {value!r}, default {default!r}, {where}{', evaluated' if evaluate else ''}"
    return Try(what, command, config, expected, names, theirs, _in_effect(key, value))


def config_weights(config: Path) -> str:
    """Name of the weights of the student of a pair's config, or of an overlay over one."""
    text = config.read_text()
    for pair, student in (("TADF", "student"), ("BCKD", "retinanet"), ("LD", "gfl")):
        if f"{pair}_pair" in text or config.stem == f"{pair}_pair":
            return student
    return "retinanet" if "ADL" in text + config.stem else "student"


@functools.cache
def _keys(ours: bool) -> list[tuple[str, Any]]:
    cfg = get_cfg()
    theirs = dict(_walk(cfg))
    add_distill_config(cfg)
    every = [(key, value) for key, value in _walk(cfg) if key not in _LEFT_OUT]
    return [(key, value) for key, value in every if (key not in theirs) == ours]


def _walk(node: CfgNode, prefix: str = ""):
    for name, value in sorted(node.items()):
        if isinstance(value, CfgNode):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _pair(key: str, rng: random.Random) -> str:
    for method in _METHODS:
        if key.startswith(f"DISTILL.{method}."):
            return f"{method}_pair"
    return rng.choice(("student", "TADF_pair", "BCKD_pair"))


def _misspelled(key: str, rng: random.Random) -> str:
    *nodes, name = key.split(".")
    place = rng.randrange(len(name))
    wrong = rng.choice(
        (
            name[:place] + name[place + 1 :] or "X",
            name + "S",
            name.lower() if name != name.lower() else name.upper(),
            name[::-1] if name != name[::-1] else name + name,
        )
    )
    return ".".join([*nodes, wrong])


def _survives_command_line(value: Any) -> bool:
    """Not so NaN and infinity, and what begins with a dash."""
    text = str(value)
    return not any(word in text for word in ("nan", "inf")) and not text.startswith("-")


def _seen(key: str, out: Path, file: Path, said: str) -> Any:
    """What the run took the key for, its losses, and whether its weights are finite."""
    with open(out / "config.yaml") as stream:
        node = yaml.unsafe_load(stream)
    for part in key.split("."):
        node = node[part]
    # As text: an infinity that nothing reads does no harm.
    seen: dict[str, Any] = {"value": str(node)}
    if (out / "metrics.json").exists():
        seen["losses"] = commands.losses(out, file, said)
        state = torch.load(out / "model_final.pth", weights_only=True)["model"]
        broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
        seen["broken weights"] = broken
    return seen


def _in_effect(key: str, value: Any):
    def check(observed: Any) -> str:
        if observed.get("broken weights"):
            return f"weights are not finite: {observed['broken weights'][:3]}"
        # A name alone is a list of it, and nothing is no text. An absent GPU becomes the CPU.
        taken = [_plain(value), _plain([value]), *([""] if value is None else [])]
        if key == "MODEL.DEVICE" or _plain(observed["value"]) in taken:
            return ""
        return f"{key} is {observed['value']} in the run, {value!r} was given"

    return check


def _plain(value: Any) -> str:
    """A value as text, lists and tuples alike, and numbers whether they are whole or not."""
    text = str(value).replace("(", "[").replace(",)", "]").replace(")", "]").replace("'", "")
    return text.removesuffix(".0")

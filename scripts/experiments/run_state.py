"""How far a run's run directory has come, and whether it still belongs to the plan."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg

from distill.config import add_distill_config
from distill.engine.results import RESULTS_FILE
from distill.engine.setup import build_config, training_parser
from distill.engine.stages import stage_configs
from distill.utils.files import file_digest, first_line, json_digest, load_json
from experiments.plan import Plan, Run

__all__ = [
    "WEIGHTS_FILE",
    "config_digest",
    "differences",
    "flat_config",
    "iterations_done",
    "iterations_wanted",
    "run_config",
    "put_aside",
    "read_results",
    "record_needs",
    "recorded_config",
    "training_arguments",
]

_SCRIPTS = Path(__file__).resolve().parents[1]
WEIGHTS_FILE = "model_final.pth"
# What pre-training in steps leaves.
_BACKBONE_FILE = "backbone.pth"
_NEEDS_FILE = "needs.json"
# Where and on what it ran makes no other experiment of it.
_NOT_COMPARED = {"OUTPUT_DIR", "MODEL.DEVICE", "PRETRAIN.DATA"}


def training_arguments(run: Run) -> list[str]:
    """The arguments of train_net.py that start or continue a run."""
    own = ["SEED", str(run.seed), "OUTPUT_DIR", str(run.folder)]
    stages = ["--stages"] if run.stages else []
    return ["--config-file", run.config, "--resume", *stages, *run.opts, *own]


def run_config(run: Run) -> CfgNode:
    """The config that train_net.py makes of a run.

    Raises:
        FileNotFoundError, ValueError: if the config file is missing or a key is wrong.
    """
    _add_keys_of(run)
    try:
        return build_config(training_parser().parse_args(training_arguments(run)))
    except (ValueError, FileNotFoundError) as error:
        # The plan is what is to be corrected.
        raise type(error)(f"The run {run.id} of the plan: {error}") from error


def read_results(run: Run) -> dict[str, Any] | None:
    """The run's results, or None while it is unfinished.

    Raises:
        ValueError: one sentence, if they are damaged.
    """
    path = run.folder / RESULTS_FILE
    results = _read_mapping(path, load_json) if path.exists() else None
    if results is None:
        return None
    weights = (run.folder / name for name in (WEIGHTS_FILE, _BACKBONE_FILE))
    return results if any(path.exists() for path in weights) else None


def differences(plan: Plan, run: Run, cfg: CfgNode) -> list[str]:
    """What sets the run that is in a run's folder apart from what the plan wants there.

    Keys that did not exist when the run was made count as having had their default.

    Args:
        plan: the plan of the run.
        run: the run.
        cfg: its config now.

    Returns:
        One phrase a difference; nothing where there is no run, or one that saved nothing yet.
    """
    folder = run.folder
    started = [*_files(run, RESULTS_FILE), *_files(run, "last_checkpoint")]
    if not started or not (folder / "config.yaml").exists():
        return []
    then = recorded_config(run)
    now = flat_config(cfg)
    found = [
        f"{key} was {then.get(key)!r} and is {now[key]!r}"
        for key in now
        if key not in _NOT_COMPARED and then.get(key) != now[key]
    ]
    if (folder / _NEEDS_FILE).exists():
        recorded = _read_mapping(folder / _NEEDS_FILE, load_json)
        for need in run.needs:
            path = plan.runs[need].folder / WEIGHTS_FILE
            if need in recorded and path.exists() and recorded[need] != file_digest(path):
                found.append(f"{need} was trained anew")
    return found


def recorded_config(run: Run) -> dict[str, Any]:
    """Key -> value of the config.yaml in a run's folder, over the defaults of newer keys."""
    _add_keys_of(run)
    return {**_defaults(), **_flat(_read_mapping(run.folder / "config.yaml", yaml.safe_load))}


def flat_config(cfg: CfgNode) -> dict[str, Any]:
    """Key -> value of a config, as its config.yaml would be read: tuples become lists."""
    return _flat(yaml.safe_load(cfg.dump()))


def config_digest(config: dict[str, Any], output: Path) -> str:
    """Twelve digits that two runs share if they differ in seed, folder and device alone.

    The first of the SHA-256 of the keys that are known and not at their default, as JSON with
    sorted keys: without SEED and what says where it runs, and with {output} for the plan's folder.
    So a key that comes later changes nothing; the revision of a run says what its defaults were.

    Args:
        config: key -> value.
        output: folder of all run directories of the plan.
    """
    default = _defaults()
    chosen = {
        key: value
        for key, value in config.items()
        if key not in {"SEED", *_NOT_COMPARED} and value != default.get(key, value)
    }
    text = json.dumps(chosen, sort_keys=True).replace(str(output), "{output}")
    return json_digest(load_json(text))[:12]


def record_needs(plan: Plan, run: Run) -> None:
    """Notes in the run's folder which weights it starts from."""
    digests = {need: file_digest(plan.runs[need].folder / WEIGHTS_FILE) for need in run.needs}
    text = json.dumps(digests, indent=2) + "\n"
    (run.folder / _NEEDS_FILE).write_text(text, encoding="utf-8")


def put_aside(run: Run) -> Path:
    """Moves a run's folder to ``<folder>.replaced``, over what is there, and returns that path."""
    aside = run.folder.with_name(f"{run.folder.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    return run.folder.rename(aside)


def iterations_wanted(run: Run, cfg: CfgNode) -> int:
    """Iterations of all stages of a run that has the config."""
    if not run.stages:
        return cfg.SOLVER.MAX_ITER
    return sum(stage.SOLVER.MAX_ITER for stage in stage_configs(cfg).values())


def iterations_done(run: Run) -> int:
    """Iterations that the run's metrics tell of; 0 where there are none."""
    return sum(_iterations_in(path) for path in _files(run, "metrics.json"))


def _read_mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """A file of a run directory, which a crash or a user may have damaged."""
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(_damaged(path, first_line(error))) from error
    if not isinstance(content, dict):
        raise ValueError(_damaged(path, f"it holds {type(content).__name__}, not a mapping"))
    return content


def _damaged(path: Path, reason: str) -> str:
    return f"{path} is damaged ({reason}): move {path.parent} away, and the run is trained anew."


def _files(run: Run, name: str) -> list[Path]:
    """The files of a name in a run's folder, and in those of its stages."""
    return [*run.folder.glob(name), *run.folder.glob(f"*/{name}")]


def _iterations_in(metrics: Path) -> int:
    try:
        with open(metrics, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 8192))
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        try:
            return int(load_json(line)["iteration"]) + 1
        except (ValueError, KeyError, TypeError):
            continue  # being written, or cut at the start
    return 0


def _add_keys_of(run: Run) -> None:
    """Imports a run's script, which may define keys of its own."""
    if not (_SCRIPTS / run.script).is_file():
        raise FileNotFoundError(
            f"The script {run.script} of the plan is not in scripts/: correct it."
        )
    importlib.import_module(Path(run.script).stem)


def _defaults() -> dict[str, Any]:
    default = get_cfg()
    add_distill_config(default)
    return flat_config(default)


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat

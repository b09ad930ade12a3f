"""An experiment as a file: which configs, with which overrides and seeds, and what needs what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.utils.outputs import check_name
from distill.utils.yaml_data import parse_yaml

__all__ = ["Group", "Plan", "Run", "load_plan"]


@dataclass(frozen=True)
class Run:
    """One training: an entry of the plan with one seed.

    Attributes:
        name: the entry's name.
        seed: the run seed.
        config: the config file.
        opts: KEY VALUE overrides, without SEED and OUTPUT_DIR.
        folder: the run directory.
        needs: ids of the runs whose weights it uses.
        stages: whether it is trained with --stages.
        script: what trains it, in scripts/.
    """

    name: str
    seed: int
    config: str
    opts: tuple[str, ...]
    folder: Path
    needs: tuple[str, ...] = ()
    stages: bool = False
    script: str = "train_net.py"

    @property
    def id(self) -> str:
        """Its name within the plan, and its folder below the plan's output."""
        return f"{self.name}/seed{self.seed}"


@dataclass(frozen=True)
class Group:
    """A table of some runs.

    Attributes:
        rows: name of runs -> label of their row. A "|" in a label begins another cell.
        columns: heading -> column of results.csv; empty for those of the first test dataset.
    """

    rows: dict[str, str]
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The runs of an experiment, those that are needed before those that need them.

    Attributes:
        output: folder of all run directories.
        runs: id -> run.
        groups: title of a table, its first heading -> the table.
        name: the file's, without its ending.
    """

    output: Path
    runs: dict[str, Run]
    groups: dict[str, Group] = field(default_factory=dict)
    name: str = "plan"

    @property
    def names(self) -> list[str]:
        """The runs' names, in the order of the plan."""
        return list(dict.fromkeys(run.name for run in self.runs.values()))

    def select(
        self, names: Iterable[str] | None = None, seeds: Iterable[int] | None = None
    ) -> list[Run]:
        """Returns the runs of some names and seeds, and all that these need.

        Args:
            names: names of runs, None for all.
            seeds: seeds, None for all; what a run needs comes with its own seed.

        Raises:
            ValueError: if the plan lacks a name, or no run has one of the seeds.
        """
        names = self.names if names is None else list(names)
        for name in names:
            if name not in self.names:
                raise ValueError(f"The plan has no run {name}; it has {', '.join(self.names)}.")
        seeds = None if seeds is None else set(seeds)
        wanted: set[str] = set()
        for run in reversed(self.runs.values()):
            if (run.name in names and (seeds is None or run.seed in seeds)) or run.id in wanted:
                wanted.update({run.id, *run.needs})
        if not wanted:
            raise ValueError(f"No run of {', '.join(names)} has a seed of {sorted(seeds or ())}.")
        return [run for run in self.runs.values() if run.id in wanted]


def load_plan(path: str | Path, output: str | Path | None = None) -> Plan:
    """Reads a plan.

    Its keys: `output`, a folder; `runs`, a list; and optionally

    - `config`, `opts` and `seeds`, which hold for every run that has none of its own (`opts` are
      put before the run's);
    - `script`, of scripts/, that trains, with the arguments of train_net.py, which is the default;
    - `groups`, the tables: title -> a list of names, or a mapping name -> label, or `rows` (one of
      these) with `columns` of its own;
    - `columns` of the tables, heading -> column of results.csv.

    Keys of a run: `name`; `config`; `opts`, a flat list KEY, VALUE, ...; `seeds`; `needs`, a list
    of runs NAME/seedK whose weights it uses; and `stages`, true for train_net.py's --stages. In
    `opts` and `needs`, {output} and {seed} are replaced. Paths are relative to the working
    directory. A needed run stands before those that need it.

    Args:
        path: the YAML file.
        output: a folder to take instead of the plan's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one sentence, if the plan is not as above.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The plan {path} does not exist: correct its path.")
    content = parse_yaml(path.read_bytes(), str(path))
    try:
        return _parse(content, output, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse(content: Any, output: str | Path | None, name: str) -> Plan:
    optional = {"config", "opts", "seeds", "script", "groups", "columns"}
    _check_keys(content, {"output", "runs"}, optional, "the plan")
    for key in ("output", "config", "script"):
        _check_type(content, key, str, "a text", "the plan")
    for key in ("groups", "columns"):
        _check_type(content, key, dict, "a mapping", "the plan")
    _check_type(content, "runs", list, "a list", "the plan")
    if not content["runs"]:
        raise ValueError("the runs of the plan are missing: list at least one.")
    check_name(content.get("script") or Run.script, "the script")
    if not (output or content["output"]):
        raise ValueError("the output is empty: name the folder of the runs.")
    folder = Path(output or content["output"])
    runs: dict[str, Run] = {}
    for entry in content["runs"]:
        _check_keys(entry, {"name"}, {"config", "opts", "seeds", "needs", "stages"}, "a run")
        for run in _runs_of(entry, content, folder):
            if run.id in runs:
                raise ValueError(f"{run.id} is there twice; give every run a name of its own.")
            for need in run.needs:
                if need not in runs:
                    raise ValueError(
                        f"{run.id} needs {need}, which is no run and seed before it; write "
                        "NAME/seedK, and the needed run first."
                    )
            runs[run.id] = run
    plan = Plan(folder, runs, name=name)
    for title, table in (content.get("groups") or {}).items():
        plan.groups[str(title)] = group = _group(table, content.get("columns"))
        for run_name in group.rows:
            if run_name not in plan.names:
                raise ValueError(f"the group {title!r} has {run_name}, which is no run.")
    return plan


def _check_type(content: dict[str, Any], key: str, kind: type, word: str, what: str) -> None:
    if content.get(key) is not None and not isinstance(content[key], kind):
        raise ValueError(f"the {key} of {what} is {content[key]!r}: it must be {word}.")


def _group(table: Any, columns: dict[str, str] | None) -> Group:
    if isinstance(table, dict) and isinstance(table.get("rows"), dict | list):
        _check_keys(table, {"rows"}, {"columns"}, "a group")
        _check_type(table, "columns", dict, "a mapping", "a group")
        table, columns = table["rows"], table.get("columns", columns)
    if not isinstance(table, dict | list):
        raise ValueError(f"a group is {table!r}: it must be a list of names, or a mapping.")
    rows = table.items() if isinstance(table, dict) else zip(table, table, strict=True)
    columns = {str(heading): str(column) for heading, column in (columns or {}).items()}
    return Group({str(name): str(label) for name, label in rows}, columns)


def _runs_of(entry: dict[str, Any], defaults: dict[str, Any], output: Path) -> list[Run]:
    name = str(entry["name"])
    check_name(name, "the name")
    for key in ("opts", "needs"):
        for x, what in ((entry, name), (defaults, "the plan")):
            _check_type(x, key, list, "a list", what)
    _check_type(entry, "config", str, "a text", name)
    config = entry.get("config", defaults.get("config"))
    if not config:
        raise ValueError(f"the run {name} has no config.")
    opts = [*(defaults.get("opts") or []), *(entry.get("opts") or [])]
    if len(opts) % 2:
        raise ValueError(f"the opts of {name} are not pairs of KEY and VALUE: {opts}.")
    for key in opts[::2]:
        if key in ("SEED", "OUTPUT_DIR"):
            raise ValueError(f"the opts of {name} set {key}, which `seeds` and `output` do.")
    seeds = entry.get("seeds", defaults.get("seeds"))
    if not isinstance(seeds, list) or not all(type(s) is int and s >= 0 for s in seeds):
        raise ValueError(f"the seeds of {name} are no list of numbers from 0: {seeds}.")

    def resolve(value: Any, seed: int) -> str:
        return str(value).replace("{output}", str(output)).replace("{seed}", str(seed))

    return [
        Run(
            name=name,
            seed=seed,
            config=str(config),
            opts=tuple(resolve(value, seed) for value in opts),
            folder=output / name / f"seed{seed}",
            needs=tuple(resolve(need, seed) for need in entry.get("needs") or ()),
            stages=bool(entry.get("stages", False)),
            script=defaults.get("script") or Run.script,
        )
        for seed in seeds
    ]


def _check_keys(content: Any, required: set[str], optional: set[str], what: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{what} is no mapping.")
    missing = required - content.keys()
    unknown = content.keys() - required - optional
    if missing or unknown:
        problem = f"lacks {sorted(missing)}"
        if not missing:
            problem = f"has unknown keys {sorted(map(str, unknown))}"
        raise ValueError(f"{what} {problem}; it takes {sorted(required | optional)}.")

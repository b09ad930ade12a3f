"""One label space for class lists that name the same things differently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from distill.data import check_datasets
from distill.data.registration import is_json_dataset

__all__ = ["Aliases", "class_order", "union_classes"]


@dataclass(frozen=True)
class Aliases:
    """Which names mean the same class.

    Attributes:
        name: file of the table, for messages.
        parents: the name that stands for a name, by the latter; chains are followed.
    """

    name: str = ""
    parents: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Aliases:
        """Reads a YAML table: a name, and the list of the other names of the same class.

        All scalars are text, so that `0: [zero]` and `no: [nein]` mean what they say.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: one sentence, if it is no such table, a name has two canonical names, or
                the names form a circle.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"The alias table {path} does not exist: correct its path.")
        try:
            content = yaml.load(path.read_bytes(), Loader=_TextLoader)
        except (yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is no YAML file ({reason}): correct it there.") from error
        return cls(str(path), _parents(content, path))

    def canonical(self, name: str) -> str:
        """The name that stands for a name; itself where the table does not list it."""
        while name in self.parents:
            name = self.parents[name]
        return name

    def check(self, known: Iterable[str]) -> None:
        """Verifies that the table lists only names that some input has.

        A canonical name may be new.

        Args:
            known: all classes of all inputs.

        Raises:
            ValueError: one sentence that names what is unknown.
        """
        unknown = sorted(set(self.parents) - set(known) - set(self.parents.values()))
        if unknown:
            raise ValueError(
                f"{self.name} lists {', '.join(unknown)}, which no input has as a class: remove or "
                f"correct it (the classes are {', '.join(sorted(set(known)))})."
            )


class _TextLoader(yaml.BaseLoader):
    """Reads all scalars as text, and refuses keys that are there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the name {key} is there twice as a key")
        return super().construct_mapping(node, deep)


def union_classes(
    lists: Sequence[Sequence[str]], aliases: Aliases, order: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[list[int]]]:
    """One list of classes for several, whatever their sequence.

    Without an order given: that of a list that has all classes, else sorted by name.

    Args:
        lists: class names of every input.
        aliases: which of them mean the same.
        order: the classes of the union as they are to be named and sorted; others are left out.

    Returns:
        The classes, and for every list the place of each of its classes among them; -1 for what is
        left out.

    Raises:
        ValueError: one sentence, if the table has unknown names or the order names a class twice.
    """
    aliases.check(name for names in (*lists, order) for name in names)
    canonical = [[aliases.canonical(name) for name in names] for names in lists]
    if order:
        wanted = [aliases.canonical(name) for name in order]
        twice = next((name for i, name in enumerate(wanted) if name in wanted[:i]), None)
        if twice is not None:
            raise ValueError(f"--classes names {twice} twice, by itself or by an alias: once only.")
        names = tuple(order)
    else:
        wanted = list(names := _natural_order(canonical))
    place = {name: i for i, name in enumerate(wanted)}
    return names, [[place.get(name, -1) for name in own] for own in canonical]


def class_order(given: Sequence[str] | None, known: Iterable[str], aliases: Aliases) -> list[str]:
    """The classes that --classes asks for: names, or a dataset that has them.

    Args:
        given: what --classes has; None without it.
        known: all classes of all inputs.
        aliases: which names mean the same.

    Returns:
        The names; [] without --classes.

    Raises:
        FileNotFoundError: if the dataset's files are missing.
        ValueError: one sentence, if no input has a class that is asked for by its name. A dataset
            may have more classes than the inputs.
    """
    if not given:
        return []
    if len(given) == 1 and (is_json_dataset(given[0]) or given[0] in DatasetCatalog.list()):
        check_datasets(given, key="--classes")
        # Detectron2 completes the metadata of a COCO file when it reads it.
        DatasetCatalog.get(given[0])
        return list(MetadataCatalog.get(given[0]).thing_classes)
    meant = {aliases.canonical(name) for name in known}
    unknown = [name for name in given if aliases.canonical(name) not in meant]
    if unknown:
        raise ValueError(
            f"--classes names {', '.join(unknown)}, which is no class of any input (they are "
            f"{', '.join(sorted(meant))}) and no registered dataset: correct it."
        )
    return list(given)


def _parents(content: Any, path: Path) -> dict[str, str]:
    if content in (None, ""):
        return {}
    lists = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(x, list) and all(isinstance(name, str) for name in x) for x in lists):
        raise ValueError(
            f"{path} is no alias table: write a line `name: [other name, ...]` for each class."
        )
    parents: dict[str, str] = {}
    for canonical, others in content.items():
        for name in others:
            if parents.setdefault(name, canonical) != canonical:
                raise ValueError(
                    f"{path} gives {name} to {parents[name]} and to {canonical}: leave it to one."
                )
    _refuse_circles(parents, path)
    return parents


def _refuse_circles(parents: dict[str, str], path: Path) -> None:
    for start in parents:
        chain = [start]
        while chain[-1] in parents:
            chain.append(parents[chain[-1]])
            if chain[-1] == start:
                raise ValueError(
                    f"The names of {path} form a circle, {' -> '.join(chain)}: remove one of them."
                )
            if len(chain) > len(parents) + 1:
                break  # It leads into a circle without being in it; that has its own start.


def _natural_order(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    orders = [tuple(dict.fromkeys(names)) for names in lists]
    everything = {name for names in orders for name in names}
    # Of several lists with all classes the first by name: the inputs' sequence must not matter.
    complete = sorted(names for names in orders if len(names) == len(everything))
    return complete[0] if complete else tuple(sorted(everything))

#!/usr/bin/env python
"""Prints docs/reference/keys.md: every configuration key of this library.

    list_keys.py > docs/reference/keys.md

Defaults and what is allowed come from the config itself, the explanations are the comments above
the assignments in the functions that define the keys. Keys that follow one another without a
comment share the one above.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from distill.config import add_distill_config
from distill.methods import METHODS
from distill.utils.config_keys import add_all_keys, key_adders, key_limits
from distill.utils.key_limits import Limit

ROOT = Path(__file__).resolve().parents[1]

_HEAD = """# Configuration keys

Every key that `distill.add_distill_config(cfg)` adds to Detectron2's own. A key is defined, with
its default and what it may be, in the file that reads it; `scripts/list_keys.py` makes this page of
those files, and a test keeps it current. Numbers are finite, and another value ends in one sentence
before anything is loaded. Any key can be overridden at the end of a command: `KEY VALUE KEY VALUE`.
"""
_RETIRED = """## Retired keys

Accepted with the value below, so that older configs load. Any other value ends in one sentence that
says what to do instead.
"""
_SCHEDULE = ".SCHEDULE"


@dataclass
class Group:
    """Keys that one comment explains.

    Attributes:
        node: full name of their node, such as DISTILL.LD.
        keys: their names in it; none if the comment is about the node.
        comment: the explanation, "" if there is none.
        source: file that defines them, relative to the repository.
    """

    node: str
    keys: list[str]
    comment: str
    source: str


def main(arguments: list[str] | None = None) -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    sys.stdout.write(page())


def page() -> str:
    """The page's Markdown.

    Raises:
        ValueError: if a key is set in a way that this program doesn't understand.
    """
    own = _added_by(add_all_keys)
    groups = _all_groups()
    explained = {f"{group.node}.{key}" for group in groups for key in group.keys}
    if explained != set(own):
        names = ", ".join(sorted(explained ^ set(own)))
        raise ValueError(f"scripts/list_keys.py does not see where these keys are set: {names}")
    lines = [_HEAD]
    for node in sorted({group.node for group in groups}):
        if not node.endswith(_SCHEDULE):
            lines += _section(node, [group for group in groups if group.node == node], own)
    lines += _schedules([group for group in groups if group.node.endswith(_SCHEDULE)], own)
    retired = {name: v for name, v in _added_by(add_distill_config).items() if name not in own}
    lines += [_RETIRED, *(f"- `{name}`: `{value!r}`" for name, value in sorted(retired.items()))]
    return "\n".join(lines) + "\n"


def _section(node: str, groups: list[Group], defaults: dict[str, Any]) -> list[str]:
    """The lines of one node."""
    values = [", ".join(f"`{defaults[f'{node}.{key}']!r}`" for key in g.keys) for g in groups]
    return [f"## {node}\n", *_table(groups, values)]


def _schedules(groups: list[Group], defaults: dict[str, Any]) -> list[str]:
    """The lines of all methods' SCHEDULE nodes, which have the same keys."""
    nodes = list(dict.fromkeys(group.node for group in groups))
    first = [group for group in groups if group.node == nodes[0]]
    columns = []
    for group in first:
        users: dict[str, list[str]] = {}
        for node in nodes:
            value = ", ".join(f"`{defaults[f'{node}.{key}']!r}`" for key in group.keys)
            users.setdefault(value, []).append(node.split(".")[1])
        alike = len(users) == 1
        columns.append("; ".join(v if alike else f"{v} ({', '.join(u)})" for v, u in users.items()))
    return [f"## DISTILL.(method){_SCHEDULE}\n", *_table(first, columns)]


def _table(groups: list[Group], defaults: list[str]) -> list[str]:
    """What is said about a node itself, where its keys are defined, and a row a group."""
    notes = [f"{group.comment}\n" for group in groups if not group.keys]
    sources = dict.fromkeys(group.source for group in groups if group.keys)
    links = ", ".join(f"[{source}](../../{source})" for source in sources)
    rows = []
    for group, values in zip(groups, defaults, strict=True):
        if group.keys:
            keys = ", ".join(f"`{key}`" for key in group.keys)
            comment = group.comment.replace("|", chr(92) + "|")
            rows.append(f"| {keys} | {values} | {_allowed(group)} | {comment} |")
    head = [f"Defined in {links}.\n", "| key | default | allowed | meaning |", "|---|---|---|---|"]
    return [*notes, *head, *rows, ""]


def _allowed(group: Group) -> str:
    """What the keys of a group may be; once where that is the same for all of them."""
    texts = [str(_limits().get(f"{group.node}.{key}", "")) for key in group.keys]
    return texts[0] if len(set(texts)) == 1 else ", ".join(f"({text})" for text in texts)


@functools.cache
def _limits() -> dict[str, Limit]:
    """What this library's keys may be, by their full names."""
    cfg = get_cfg()
    add_all_keys(cfg)
    return key_limits(cfg)


def _added_by(add: Callable[[CfgNode], None]) -> dict[str, Any]:
    """The keys that a function adds to Detectron2's, with their values."""
    cfg = get_cfg()
    before = set(_leaves(cfg))
    add(cfg)
    return {name: value for name, value in _leaves(cfg).items() if name not in before}


def _leaves(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Every value of a config by its full name."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        inner = isinstance(value, CfgNode)
        found |= _leaves(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found


def _all_groups() -> list[Group]:
    """The keys of every room, then of every method."""
    rooms = [group for add in key_adders() for group in _groups(add, [""])]
    methods = [g for name, m in METHODS for g in _groups(m.add_keys, [f"DISTILL.{name}"])]
    nodes = {group.node for group in (*rooms, *methods)}
    for group in (*rooms, *methods):
        # A node is no key; what is said about it stands before its keys.
        keys = [key for key in group.keys if f"{group.node}.{key}".lstrip(".") not in nodes]
        if not keys:
            group.node = f"{group.node}.{group.keys[0]}".lstrip(".")
        group.keys = keys
    return [group for group in (*rooms, *methods) if group.keys or group.comment]


def _groups(function: Callable[..., Any], arguments: Iterable[str | None]) -> Iterator[Group]:
    """The keys that a function sets.

    Args:
        function: gets config nodes, and adds keys to them.
        arguments: full names of the nodes; None for an argument that is no node.
    """
    source = _parse(function)[0]
    names = [argument.arg for argument in source.args.args]
    yield from _walk(function, dict(zip(names, arguments, strict=False)))


def _walk(function: Callable[..., Any], places: dict[str, str | None]) -> Iterator[Group]:
    """The keys that a function sets below known nodes.

    Args:
        function: the function.
        places: full names of the nodes by the names of the variables that hold them.
    """
    source, comments = _parse(function)
    file = Path(inspect.getsourcefile(function)).resolve().relative_to(ROOT).as_posix()
    group: Group | None = None
    last = 0
    for statement in source.body:
        value = getattr(statement, "value", None)
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        attributes = [target for target in targets if isinstance(target, ast.Attribute)]
        paths = [path for x in attributes if (path := _path(x, places))]
        for target in targets:
            place = paths[0] if paths else _path(value, places)
            # A new node, `node = CfgNode()`, belongs where whoever called knows that it does.
            if isinstance(target, ast.Name) and place is not None:
                places[target.id] = place
        if isinstance(value, ast.Call):
            yield from _called(function, value, places, paths)
        for path in paths:
            node, _, key = path.rpartition(".")
            comment = comments.get(statement.lineno - 1, "")
            if group and group.node == node and not comment and statement.lineno == last + 1:
                group.keys.append(key)
            else:
                group = Group(node, [key], comment, file)
                yield group
            last = statement.end_lineno


def _called(
    function: Callable[..., Any], call: ast.Call, places: dict[str, str | None], paths: list[str]
) -> Iterator[Group]:
    """The keys of a function that is called with nodes, or that makes the node assigned to."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    helper = inspect.unwrap(function).__globals__.get(name)
    if not inspect.isfunction(helper):
        return
    arguments = [_path(argument, places) for argument in call.args]
    if any(argument is not None for argument in arguments):
        yield from _groups(helper, arguments)
    elif paths:
        returned = [x.value for x in _parse(helper)[0].body if isinstance(x, ast.Return)]
        made = [x.id for x in returned if isinstance(x, ast.Name)]
        yield from _walk(helper, dict.fromkeys(made, paths[0]))


def _parse(function: Callable[..., Any]) -> tuple[ast.FunctionDef, dict[int, str]]:
    """A function's syntax, and its comments by the line on which they end."""
    text = textwrap.dedent(inspect.getsource(function))
    comments: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip().startswith("#"):
            before = comments.pop(number - 1, "")
            comments[number] = f"{before} {line.strip().lstrip('# ')}".strip()
    return ast.parse(text).body[0], comments


def _path(node: ast.AST | None, places: dict[str, str | None]) -> str | None:
    """The full name of an expression such as `cfg.MODEL.GFL`; None if it is no node."""
    if isinstance(node, ast.Name):
        return places.get(node.id)
    if isinstance(node, ast.Attribute):
        inner = _path(node.value, places)
        return None if inner is None else f"{inner}.{node.attr}".lstrip(".")
    return None


if __name__ == "__main__":
    main()

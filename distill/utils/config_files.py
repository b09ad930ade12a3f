"""The one reader of config files: a YAML file, those that it is based on, and overrides.

It does what Detectron2's ``CfgNode.merge_from_file`` and ``merge_from_list`` do, but no file runs
code, a value of another type is converted where that cannot be a mistake (2.0 for a whole number, 1
for a number, a name where a list of names belongs), and an error says in one sentence which file of
the chain and which key it is about.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode, downgrade_config, upgrade_config
from detectron2.config.compat import guess_version
from detectron2.utils.file_io import PathManager

from distill.utils.config_values import fit_value, shown
from distill.utils.wording import did_you_mean
from distill.utils.yaml_data import MOST_BYTES, parse_yaml

__all__ = ["given_values", "merge_file", "merge_overrides", "merge_tree"]

_BASE = "_BASE_"
_MOST_FILES = 50


def merge_file(cfg: CfgNode, reference: str | os.PathLike[str], *, key: str) -> None:
    """Merges a config file, and the files that its ``_BASE_`` names, into a config in place.

    Args:
        cfg: the config, with all keys that the files may set.
        reference: a path or URL of a YAML file. A ``_BASE_`` in it is a path relative to the file,
            an absolute one, one that begins with ``~``, a URL, or a list of these, of which later
            ones win.
        key: the option or config key that the reference comes from, for messages.

    Raises:
        FileNotFoundError: one sentence, if there is no such file.
        ValueError: one sentence with the file and the key, if it is no config.
    """
    files = list(_read(os.fspath(reference), f"{key} ", (), []))
    version = _version(files)
    if version == cfg.VERSION:
        for name, tree in files:
            merge_tree(cfg, tree, name)
        return
    if version != 1:
        raise ValueError(
            f"{files[-1][0]}: VERSION is {shown(version)}, but this Detectron2 reads {cfg.VERSION}"
        )
    older = downgrade_config(cfg, to_version=version)
    for name, tree in files:
        merge_tree(older, tree, name)
    latest = upgrade_config(older)
    cfg.clear()
    cfg.update(latest)


def merge_overrides(cfg: CfgNode, pairs: Sequence[Any], *, key: str) -> None:
    """Merges KEY VALUE overrides into a config in place.

    Args:
        cfg: the config.
        pairs: KEY, VALUE, KEY, VALUE; a value that is text is read as Python writes it, and is
            itself where it is no literal.
        key: the option or config key that they come from, for messages.

    Raises:
        ValueError: one sentence that names the key, if there is no such key, it has no value, or
            one of another type.
    """
    if len(pairs) % 2:
        hint = ": write KEY VALUE" if "=" in str(pairs[-1]) else ""
        raise ValueError(f"{key}: {shown(pairs[-1])}, the last of them, has no value{hint}")
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        parts = str(name).split(".")
        if parts[0] not in cfg:
            # A group that is gone is ignored in files alone, which older runs may have written.
            raise _unknown(key, str(name), cfg)
        tree: Any = value
        for part in reversed(parts):
            tree = {part: tree}
        merge_tree(cfg, tree, key)


def given_values(
    reference: str | os.PathLike[str], pairs: Sequence[Any], name: str, *, key: str
) -> list[Any]:
    """What a config file, those that it is based on, and overrides give one key, the last one last.

    Args:
        reference: the file, see :func:`merge_file`; "" for none.
        pairs: the overrides, see :func:`merge_overrides`.
        name: the key, with dots.
        key: the option or config key that the reference comes from, for messages.

    Raises:
        FileNotFoundError, ValueError: one sentence, if a file is missing or is no config.
    """
    found = []
    for _, tree in _read(os.fspath(reference), f"{key} ", (), []) if reference else ():
        value: Any = tree
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found += [] if value is None else [value]
    return found + [x for k, x in zip(pairs[::2], pairs[1::2], strict=False) if k == name]


def merge_tree(cfg: CfgNode, tree: dict[str, Any], name: str) -> None:
    """Merges nested values into a config in place.

    Args:
        cfg: the config.
        tree: values by key, as YAML gives them.
        name: what they come from, for messages.

    Raises:
        ValueError: one sentence that names the key, see :func:`merge_overrides`.
    """
    _merge(cfg, tree, name, "", cfg)


def _merge(node: CfgNode, tree: dict[str, Any], name: str, path: str, root: CfgNode) -> None:
    for key, value in tree.items():
        full = f"{path}{key}"
        if key not in node:
            if root.key_is_deprecated(full):
                continue
            if not node.is_new_allowed():
                raise _unknown(name, full, root)
            node[key] = CfgNode(value) if isinstance(value, dict) else value
        elif not isinstance(node[key], CfgNode):
            node[key] = fit_value(value, node[key], f"{name}: {full}")
        elif isinstance(value, dict):
            _merge(node[key], value, name, f"{full}.", root)
        elif value is not None:
            inner = next(iter(node[key]), "KEY")
            raise ValueError(
                f"{name}: {full} is {shown(value)}, but is a group of keys: set one of them, such "
                f"as {full}.{inner}"
            )


def _unknown(name: str, full: str, root: CfgNode) -> ValueError:
    """The error of a key that does not exist, with what it was meant to be.

    That is the key that ends like it, or else the one that looks most like it.
    """
    known = list(_names(root, ""))
    same = [other for other in known if other.endswith(f".{full}")]
    hint = f'; did you mean "{same[0]}"?' if len(same) == 1 else did_you_mean(full, known)
    written = " ".join(full.split())
    return ValueError(
        f"{name}: there is no key {written if len(written) < 80 else written[:70] + ' ...'}{hint}"
    )


def _names(node: CfgNode, path: str) -> Iterator[str]:
    for key, value in node.items():
        yield f"{path}{key}"
        if isinstance(value, CfgNode):
            yield from _names(value, f"{path}{key}.")


def _read(
    reference: str, said: str, above: tuple[str, ...], read: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files of a chain with their values, bases first.

    Args:
        reference: path or URL.
        said: what the reference comes from, to begin an error with.
        above: the files that led here.
        read: all files so far; extended in place.
    """
    path = _local_path(reference, said)
    identity = os.path.realpath(path)
    name = f"{said}{reference}"
    if identity in above:
        raise ValueError(f"{name} is based on itself: take its {_BASE} out of the circle of files")
    read.append(identity)
    if len(read) > _MOST_FILES:
        raise ValueError(f"{name} is one of more than {_MOST_FILES} files of a config: merge some")
    tree = _tree(path, name)
    bases = tree.pop(_BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base:
            raise ValueError(f"{name}: {_BASE} is {shown(base)}, but is the path of a YAML file")
        base = os.path.expanduser(base)
        if "://" not in base:
            base = os.path.join(os.path.dirname(reference), base)
        yield from _read(base, f"{name}: {_BASE} ", (*above, identity), read)
    yield name, tree


def _local_path(reference: str, said: str) -> str:
    if reference.endswith(".py"):
        raise ValueError(
            f"{said}{reference} is Python, which would be run: give a YAML config (Detectron2's "
            "lazy configs are not read)"
        )
    try:
        path = PathManager.get_local_path(os.path.expanduser(reference))
        if os.path.isfile(path):
            return path
        if os.path.isdir(path):
            raise ValueError(f"{said}{reference} is a folder: give the YAML file in it")
    except (OSError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise FileNotFoundError(f"{said}{reference} cannot be fetched ({reason})") from error
    raise FileNotFoundError(
        f"{said}{reference} does not exist: correct its path"
        + ("" if _BASE in said else " (it is relative to the working directory)")
    )


def _tree(path: str, name: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            # One byte more than is read at most tells what is too large.
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from error
    tree = parse_yaml(content, name)
    if tree is None:
        raise ValueError(f"{name} is empty: give the YAML file of a config")
    if not isinstance(tree, dict):
        raise ValueError(f"{name} holds {shown(tree)}, but a config is keys and their values")
    return tree


def _version(files: Sequence[tuple[str, dict[str, Any]]]) -> Any:
    """The version of Detectron2's keys that a chain of files is written in."""
    given = [tree["VERSION"] for _, tree in files if "VERSION" in tree]
    if given:
        return given[-1]
    groups = {k: v for _, tree in files for k, v in tree.items() if isinstance(v, dict)}
    return guess_version(groups, files[-1][0])

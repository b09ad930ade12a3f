"""YAML as data: no tag runs code, and what cannot be meant is refused in one sentence."""

from __future__ import annotations

import re
from typing import Any

import yaml

from distill.utils.expressions import evaluate

__all__ = ["MOST_BYTES", "parse_yaml"]

_PREFIX = "tag:yaml.org,2002:"
_TAGS = tuple(_PREFIX + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map"))
# Signs that no name, path or text has, and with which no file can be opened or log be written.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff]")
# No config comes near these; a file that does is another kind of file, or an attack.
MOST_BYTES = 1_000_000
_MOST_NODES = 50_000
_DEEPEST = 50


def parse_yaml(content: bytes | str, name: str) -> Any:
    """The value of a YAML document.

    Beyond plain YAML, ``1e-3`` is a number, a date is text, ``!!python/tuple`` is a tuple, and the
    lists that Detectron2's own configs compute are computed, see `distill.utils.expressions`.

    Args:
        content: the document; bytes are UTF-8, or UTF-16 with a byte order mark.
        name: what the document is called in errors.

    Returns:
        Nested dicts by text, lists, tuples and scalars; None for an empty document.

    Raises:
        ValueError: one sentence that begins with the name and has the line, if it is no YAML, has
            a tag or another key twice, or is larger, deeper or longer written out than any config.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"{name} has more than {MOST_BYTES} bytes and is no config")
    try:
        loader = _Loader(content)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check(root, {}, 0)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply to be a config") from error
    except (yaml.YAMLError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"{name} is not plain YAML: {_reason(error)}") from error


class _Loader(yaml.SafeLoader):
    """Plain YAML's loader with fewer guesses and with the tags that are data."""

    yaml_implicit_resolvers = {
        sign: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_PREFIX}timestamp"]
        for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in _TAGS}


def _computed(loader: _Loader, node: yaml.Node) -> Any:
    """The value of ``!!python/object/apply:eval ["expression"]``."""
    arguments = loader.construct_sequence(node)
    try:
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise ValueError("it is not one text")
        return evaluate(arguments[0])
    except ValueError as error:
        problem = (
            "the expression is more than numbers and lists of them, which is all that is computed "
            f"({error}): write its value instead"
        )
        raise _error(node, problem) from error


def _refuse_tag(loader: _Loader, node: yaml.Node) -> None:
    tag = node.tag.replace(_PREFIX, "!!")
    raise _error(node, f"the tag {tag} is not read, as tags may run code: write the value itself")


_Loader.add_implicit_resolver(
    f"{_PREFIX}float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_constructor(
    f"{_PREFIX}python/tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)
_Loader.add_constructor(f"{_PREFIX}python/object/apply:eval", _computed)
_Loader.add_constructor(None, _refuse_tag)


def _check(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Refuses what is built to be large, and keys that are set twice.

    Args:
        node: a part of the document; an alias is the very node that it refers to.
        sizes: the nodes that have been looked at, see below.
        depth: how deep this one lies.

    Returns:
        The number of nodes that it has with its aliases written out.
    """
    if depth > _DEEPEST:
        raise _error(node, "it is nested too deeply, or an alias refers to what it is part of")
    if id(node) in sizes:
        return sizes[id(node)]
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.ScalarNode) and _NO_TEXT.search(node.value):
        raise _error(node, "a text has control characters: remove them")
    if isinstance(node, yaml.MappingNode):
        _check_names([key for key, _ in node.value])
        inner = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    size = 1 + sum(_check(child, sizes, depth + 1) for child in inner)
    if size > _MOST_NODES:
        raise _error(node, "written out, its aliases make more values than any config has")
    sizes[id(node)] = size
    return size


def _check_names(keys: list[yaml.Node]) -> None:
    seen = set()
    for key in keys:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(key, "a key is a name, no list and no mapping")
        if key.value in seen and key.value != "<<":
            raise _error(key, f"{key.value} is set twice in the same place: remove one")
        seen.add(key.value)


def _error(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _reason(error: Exception) -> str:
    """An error of the parser as the end of a sentence."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"in line {mark.line + 1}, " if mark else ""
        tab = ": indent with spaces" if "'\\t'" in str(error.problem) else ""
        return f"{place}{error.problem or error.context}{tab}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"byte {error.position} is no text (expected is UTF-8)"
    return " ".join(str(error).split())

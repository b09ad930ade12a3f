"""Where every room puts the configuration keys that it defines, and what they may be.

A room decorates the function that adds its keys; `distill.config` calls them all. So no list of
keys has to know all rooms, and a room outside of the library, a paper's for example, adds its own
by being imported. Such a function also says what each key may be:

    node.FRACTION = 0.6
    node.FORM = "code"
    limit(node, FRACTION=number(above=0, at_most=1), FORM=one_of("code", "paper"))

Keys that are True or False, or any text, need no limit of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode

from distill.utils.config_values import shown
from distill.utils.key_limits import Limit, flag, text

__all__ = [
    "AddKeys",
    "add_all_keys",
    "check_limits",
    "defines_keys",
    "key_adders",
    "key_limits",
    "limit",
]

AddKeys = Callable[[CfgNode], None]

_ADDERS: list[AddKeys] = []
# Name of a node's own attribute, beside those of yacs, which copies of the node have too.
_LIMITS = "__limits__"


def defines_keys(add: AddKeys) -> AddKeys:
    """Decorates a function that adds keys, with their defaults, to a config in place.

    Args:
        add: gets a config that has a DISTILL node.
    """
    _ADDERS.append(add)
    return add


def limit(node: CfgNode, **limits: Limit) -> None:
    """Says what keys may be.

    Args:
        node: has the keys, with their defaults.
        limits: what each of them may be, by its name.

    Raises:
        ValueError: if a key does not exist or its default is not allowed.
    """
    for key, allowed in limits.items():
        if wrong := allowed.remedy(node[key]) if key in node else "there is no such key":
            raise ValueError(f"the limit of {key}: {wrong}")
    node.__dict__.setdefault(_LIMITS, {}).update(limits)


def add_all_keys(cfg: CfgNode) -> None:
    """Adds the keys of every room that has been imported.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``; changed in place.
    """
    others = {name for name, _, _ in _walk(cfg)}
    cfg.DISTILL = CfgNode()
    for add in _ADDERS:
        add(cfg)
    for name, node, key in list(_walk(cfg)):
        if name not in others and key not in node.__dict__.get(_LIMITS, {}):
            kind = {bool: flag(), str: text()}.get(type(node[key]))
            if kind is not None:
                limit(node, **{key: kind})


def key_adders() -> tuple[AddKeys, ...]:
    """The functions that define keys, of every room that has been imported."""
    return tuple(_ADDERS)


def key_limits(cfg: CfgNode) -> dict[str, Limit]:
    """What the keys of a config may be, by their full names.

    Args:
        cfg: a config with this library's keys.
    """
    return {
        name: node.__dict__[_LIMITS][key]
        for name, node, key in _walk(cfg)
        if key in node.__dict__.get(_LIMITS, {})
    }


def check_limits(cfg: CfgNode, *, groups: Sequence[str] = (), source: str = "") -> None:
    """Refuses a value that its key's limit does not allow, and NaN and infinity in any key.

    Args:
        cfg: a config with this library's keys.
        groups: the groups of keys to look at, such as MODEL; () for all.
        source: where the config comes from, to begin an error with.

    Raises:
        ValueError: one sentence that names the key.
    """
    limits = key_limits(cfg)
    for name, node, key in _walk(cfg):
        if groups and name.split(".")[0] not in groups:
            continue
        value = node[key]
        if name in limits:
            wrong = limits[name].remedy(value)
        else:
            wrong = "" if _is_finite(value) else "it must be finite"
        if wrong:
            given = f'"{value}"' if isinstance(value, str) else shown(value)
            raise ValueError(f"{source}{name} is {given}; {wrong}")


def _walk(node: CfgNode, path: str = "") -> Iterator[tuple[str, CfgNode, str]]:
    """Every key that is no group: its full name, its node, and its name there."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _walk(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", node, key


def _is_finite(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)

"""Every key of this library says what it may be, and nothing else is let through."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg

from distill import add_distill_config
from distill.config import check_keys

NAN = math.nan
# By the type of the default: what no such key may be.
WRONG: dict[type, tuple[Any, ...]] = {
    bool: ("maybe", 2, [True], None),
    int: ("three", 1.5, NAN, math.inf, [1], {}, None),
    float: ("half", NAN, [0.5], {}, None),
    str: ([1, 2], 1.5, {}),
    list: (5.5, {}, None),
    tuple: (5.5, {}, None),
}
# Whose negative values have no meaning, by the end of the name.
NOT_NEGATIVE = ("WEIGHT", "FACTOR", "TEMPERATURE", "FRACTION", "MAX_ITER", "PERIOD", "THRESHOLD")
# A retired key has one value left, and that is checked first.
RETIRED = ("DISTILL.UNLABELED.BOXES", "DISTILL.PSEUDO.SCORE_WEIGHTS")


@functools.cache
def _config() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    return cfg


def _keys(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@functools.cache
def _ours() -> dict[str, Any]:
    theirs = dict(_keys(get_cfg()))
    return {k: v for k, v in _keys(_config()) if k not in theirs and k not in RETIRED}


def _refused(key: str, value: Any) -> bool:
    """Whether the key is refused by name; set past yacs, which compares types alone."""
    cfg = _config()
    *nodes, name = key.split(".")
    node = functools.reduce(lambda node, part: node[part], nodes, cfg)
    default = node[name]
    dict.__setitem__(node, name, value)
    try:
        check_keys(cfg)
    except ValueError as error:
        return name in str(error)
    finally:
        dict.__setitem__(node, name, default)
    return False


def test_the_defaults_are_allowed() -> None:
    check_keys(_config())


@pytest.mark.parametrize("key", sorted(_ours()))
def test_a_key_refuses_what_it_cannot_be(key: str) -> None:
    default = _ours()[key]
    taken = [value for value in WRONG[type(default)] if not _refused(key, value)]
    assert not taken, f"{key}, {default!r} by default, may be {taken}"


@pytest.mark.parametrize("key", [k for k in sorted(_ours()) if k.endswith(NOT_NEGATIVE)])
def test_a_key_of_an_amount_is_not_negative_nor_infinite(key: str) -> None:
    assert type(_ours()[key]) in (int, float)
    assert all(_refused(key, value) for value in (-1, -0.5, -math.inf, math.inf))

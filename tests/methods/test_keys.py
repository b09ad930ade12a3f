"""A method's keys and its constructor agree, and every default is written once."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from detectron2.config import CfgNode
from helpers import tiny

from distill.methods import METHODS, Method
from distill.methods.ida_det.selector import ProposalSelector
from distill.methods.schedule import Schedule
from distill.views.levels import Level

LEVELS = (Level("p2", "p2", 4, 8, 8), Level("p3", "p3", 8, 8, 8))
EVERY = pytest.mark.parametrize("name", [name for name, _ in METHODS])
# Arguments that come from elsewhere: the pair, and DISTILL.DENSE.
FOREIGN = {"matched", "mask_padding"}


def parameters(method: type[Method]) -> dict[str, inspect.Parameter]:
    """Those of the constructor, with the fields of a selector in its place."""
    found = dict(inspect.signature(method.__init__).parameters)
    del found["self"]
    if found.pop("selector", None):
        found.update(inspect.signature(ProposalSelector).parameters)
    return found


def node_of(method: type[Method]) -> CfgNode:
    node = CfgNode()
    method.add_keys(node)
    return node


@EVERY
def test_every_key_is_an_argument_and_every_argument_a_key(name: str) -> None:
    method = METHODS.get(name)
    assert method.name == name
    keys = {key.lower() for key in node_of(method)}
    assert keys == parameters(method).keys() - FOREIGN


@EVERY
def test_no_argument_repeats_the_default_of_its_key(name: str) -> None:
    defaults = [x.default for x in parameters(METHODS.get(name)).values()]
    assert set(defaults) == {inspect.Parameter.empty}


def settings(method: Method) -> dict[str, Any]:
    """The plain values among a method's attributes."""
    plain = (bool, int, float, str, tuple, dict, Schedule, ProposalSelector, type(None))
    public = {k: x for k, x in vars(method).items() if not k.startswith("_")}
    return {k: x for k, x in public.items() if isinstance(x, plain)}


@EVERY
def test_code_without_a_config_gets_the_defaults_of_the_config(name: str) -> None:
    method = METHODS.get(name)
    schedule = Schedule(node_of(method).SCHEDULE.NAME, max_iter=100)
    direct, configured = method.with_defaults(LEVELS, schedule=schedule), method(cfg(), LEVELS)
    assert settings(direct) == settings(configured) and settings(direct)
    assert str(direct) == str(configured)


@EVERY
def test_a_changed_key_reaches_the_method(name: str) -> None:
    method = METHODS.get(name)
    for key, value in node_of(method).items():
        if type(value) is not float:
            continue
        changed = value / 2 + 0.25
        ours = method(cfg(**{f"DISTILL__{name}__{key}": changed}), LEVELS)
        theirs = method(cfg(), LEVELS)
        assert repr(settings(ours)) != repr(settings(theirs)), key
        same = method.with_defaults(LEVELS, **arguments(method, key.lower(), changed))
        assert settings(same) == {**settings(ours), "schedule": same.schedule}


def arguments(method: type[Method], name: str, value: float) -> dict[str, Any]:
    """An argument of the constructor, or a selector in which it differs."""
    if name not in ProposalSelector.__dataclass_fields__ or method.name != "IDaDet":
        return {name: value}
    selector = method.with_defaults(LEVELS).selector
    return {"selector": dataclasses.replace(selector, **{name: value})}


def cfg(**changes: Any) -> CfgNode:
    return tiny.rcnn_cfg(**changes)


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="neckweight"):
        METHODS.get("TADF").with_defaults(LEVELS, neckweight=1.0)

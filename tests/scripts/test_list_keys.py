"""What the page of keys takes from a function that defines some."""

from __future__ import annotations

import list_keys
import pytest
from detectron2.config import CfgNode

from distill.utils import config_keys


def _decay() -> CfgNode:
    node = CfgNode()
    # Where it ends.
    node.END = 0.0
    return node


def _add_two_thresholds(node: CfgNode) -> None:
    # Scores below the first are dropped,
    # and so are IoUs above the second.
    node.SCORE = 0.5
    node.IOU = 0.6


def _add(cfg: CfgNode) -> None:
    # What all of them are for.
    thing = cfg.MODEL.THING = CfgNode()
    # How many there are.
    thing.NUMBER = 3
    _add_two_thresholds(thing)
    thing.DECAY = _decay()


def _add_in_a_loop(cfg: CfgNode) -> None:
    cfg.LOOP = CfgNode()
    for name in ("A", "B"):
        cfg.LOOP[name] = 0


def test_keys_of_a_function_and_of_those_it_calls_are_found_with_their_comments() -> None:
    found = {(x.node, *x.keys): x.comment for x in list(list_keys._groups(_add, [""]))}
    assert found == {
        ("MODEL", "THING"): "What all of them are for.",
        ("MODEL.THING", "NUMBER"): "How many there are.",
        ("MODEL.THING", "SCORE", "IOU"): (
            "Scores below the first are dropped, and so are IoUs above the second."
        ),
        ("MODEL.THING", "DECAY"): "",
        ("MODEL.THING.DECAY", "END"): "Where it ends.",
    }


def test_the_file_that_defines_a_key_is_named() -> None:
    sources = {group.source for group in list_keys._groups(_add, [""])}
    assert sources == {"tests/scripts/test_list_keys.py"}


def test_a_key_that_it_does_not_see_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_keys, "_ADDERS", [*config_keys._ADDERS, _add_in_a_loop])
    with pytest.raises(ValueError, match=r"does not see where .* LOOP\.A, LOOP\.B"):
        list_keys.page()

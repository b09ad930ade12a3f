"""Where every room puts the configuration keys that it defines.

A room decorates the function that adds its keys; `distill.config` calls them all. So no list of
keys has to know all rooms, and a room outside of the library, a paper's for example, adds its own
by being imported.
"""

from __future__ import annotations

from collections.abc import Callable

from detectron2.config import CfgNode

__all__ = ["AddKeys", "add_all_keys", "defines_keys", "key_adders"]

AddKeys = Callable[[CfgNode], None]

_ADDERS: list[AddKeys] = []


def defines_keys(add: AddKeys) -> AddKeys:
    """Decorates a function that adds keys, with their defaults, to a config in place.

    Args:
        add: gets a config that has a DISTILL node.
    """
    _ADDERS.append(add)
    return add


def add_all_keys(cfg: CfgNode) -> None:
    """Adds the keys of every room that has been imported.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``; changed in place.
    """
    cfg.DISTILL = CfgNode()
    for add in _ADDERS:
        add(cfg)


def key_adders() -> tuple[AddKeys, ...]:
    """The functions that define keys, of every room that has been imported."""
    return tuple(_ADDERS)

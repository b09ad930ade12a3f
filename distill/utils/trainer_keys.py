"""Keys that only this library's Trainer acts on, and who promises to.

In a training script of one's own such a key would change nothing, without a word. So the Distiller
refuses a config that sets one, unless it is built by a program that says that it acts on them.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.config import CfgNode

__all__ = ["acts_on_trainer_keys", "check_trainer_keys", "only_trainer_acts_on"]

_KEYS: dict[str, Any] = {}
_ACTED_ON = contextvars.ContextVar("acted_on", default=False)


def only_trainer_acts_on(defaults: Mapping[str, Any]) -> None:
    """Notes keys that Detectron2's own trainer does not know.

    Args:
        defaults: the value that changes nothing, by the key.
    """
    _KEYS.update(defaults)


@contextlib.contextmanager
def acts_on_trainer_keys() -> Iterator[None]:
    """What is built inside belongs to a training that acts on all of these keys."""
    token = _ACTED_ON.set(True)
    try:
        yield
    finally:
        _ACTED_ON.reset(token)


def check_trainer_keys(cfg: CfgNode) -> None:
    """Refuses keys that nobody would act on.

    Args:
        cfg: the config that a Distiller is built of.

    Raises:
        ValueError: one sentence that names the keys.
    """
    if _ACTED_ON.get():
        return
    idle = [key for key, default in _KEYS.items() if _plain(_value(cfg, key)) != _plain(default)]
    if idle:
        raise ValueError(
            f"{', '.join(idle)} {'is' if len(idle) == 1 else 'are'} acted on by "
            "distill.engine.Trainer alone, and this program builds its model by itself: train with "
            "that Trainer, or leave the key at its default"
        )


def _value(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value

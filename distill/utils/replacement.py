"""A method of a module in whose place another one stands for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

__all__ = ["replaced_method"]


@contextmanager
def replaced_method(owner: nn.Module, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Puts a function in the place of one module's method, and takes it away in the end.

    Contexts may be nested, also around the same method; then the inner one calls the outer one.

    Args:
        owner: the module; others of its class keep theirs.
        name: of its method.
        method: is called with the method it replaces and the call's own arguments.
    """
    # An attribute of the instance shadows the class's method until it is removed.
    before = vars(owner).get(name)
    setattr(owner, name, partial(method, getattr(owner, name)))
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)

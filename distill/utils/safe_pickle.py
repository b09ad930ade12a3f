"""Pickles of arrays and plain containers, read without running code or believing their sizes."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["NUMPY_GLOBALS", "ArrayUnpickler", "RefusedGlobal"]


class RefusedGlobal(pickle.UnpicklingError):
    """A pickle names what is neither an array nor a plain container."""


class _Array(np.ndarray):
    """An array whose pickled state must hold as many bytes as its shape asks for."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Array:
        raise pickle.UnpicklingError("it makes an array of any size")

    def __setstate__(self, state: tuple) -> None:
        dtype, content = state[-3], state[-1]
        if dtype.hasobject:
            raise pickle.UnpicklingError("it holds an array of objects")
        # Exact: an int64 would overflow on sizes that are made up.
        number = 1
        for length in state[-4]:
            number *= int(length)
        if number * dtype.itemsize != len(content):
            raise pickle.UnpicklingError("an array's shape does not fit its content")
        super().__setstate__(state)


def _reconstruct(*args: Any) -> _Array:
    # NumPy always pickles an array as an empty one, whose state follows.
    return np.empty(0, np.int8).view(_Array)


def _scalar(dtype: np.dtype, content: bytes) -> np.generic:
    if dtype.hasobject or len(content) != dtype.itemsize:
        raise pickle.UnpicklingError("a number's type does not fit its content")
    return np.frombuffer(content, dtype)[0]


def _frombuffer(content: bytes, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
    return np.frombuffer(content, dtype).reshape(shape, order=order).copy()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # How old protocols write bytes.
    return text.encode("latin1")


def _bytearray(content: bytes | str = b"", *encoding: str) -> bytearray:
    # A number would be a size.
    return bytearray(content.encode("latin1") if isinstance(content, str) else bytes(content[:]))


# By the name in the pickle; releases of NumPy differ in the module's.
NUMPY_GLOBALS: dict[str, Any] = {
    "numpy.dtype": np.dtype,
    "numpy.ndarray": _Array,
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _frombuffer),
        )
    },
}
_GLOBALS: dict[str, Any] = {
    **NUMPY_GLOBALS,
    **{f"builtins.{x.__name__}": x for x in (complex, dict, frozenset, list, set, slice, tuple)},
    "builtins.bytearray": _bytearray,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
}


# The one in Python: C's makes room for whatever number of remembered objects a file claims.
class ArrayUnpickler(pickle._Unpickler):
    """Reads arrays and plain containers; anything else is refused with :class:`RefusedGlobal`."""

    dispatch: dict[int, Callable] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for.

        Raises:
            RefusedGlobal: if it is not among the harmless ones.
        """
        full = f"{ {'__builtin__': 'builtins'}.get(module, module) }.{name}"
        if full not in _GLOBALS:
            raise RefusedGlobal(full)
        return _GLOBALS[full]

    def load_build(self) -> None:
        """Gives the last object its state, which functions and classes do not have."""
        if not isinstance(self.stack[-2], self.stateful):
            raise pickle.UnpicklingError(f"it changes a {type(self.stack[-2]).__name__}")
        super().load_build()

    def load_bytearray8(self) -> None:
        """Reads bytes that can be changed; the base class makes room for as many as it is told."""
        number = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(number)))

    stateful: tuple[type, ...] = (_Array, np.dtype, OrderedDict)
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

"""The zip archive that torch.save writes: whole, unchanged, and of the sizes that it claims.

torch.load looks at none of it: it reads flipped bits as other weights, and makes room for whatever
size a tensor claims.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from typing import Any

from distill.utils.safe_pickle import NUMPY_GLOBALS, ArrayUnpickler

__all__ = ["check_archive"]

_BLOCK = 1 << 20
# Bytes of an element of torch's kinds of storage.
_ITEM_SIZES = {
    f"{kind}Storage": size
    for size, kinds in {
        1: ("Untyped", "Bool", "Byte", "Char", "QInt8", "QUInt8", "QUInt4x2", "QUInt2x4"),
        2: ("Half", "BFloat16", "Short"),
        4: ("Float", "Int", "QInt32"),
        8: ("Double", "Long", "ComplexFloat"),
        16: ("ComplexDouble",),
    }.items()
    for kind in kinds
}


def check_archive(path: str | os.PathLike[str]) -> bool:
    """Refuses an archive that is damaged, is no checkpoint, or claims more than it holds.

    Args:
        path: the file.

    Returns:
        Whether it holds NumPy values beside tensors.

    Raises:
        RefusedGlobal: if reading it would call what is neither an array's nor a tensor's.
        pickle.UnpicklingError: with the reason, if it is not what torch.save writes.
        zipfile.BadZipFile: if it was changed since.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        top = next(iter(members), "").partition("/")[0]
        if f"{top}/data.pkl" not in members:
            raise pickle.UnpicklingError("it is a zip archive without a checkpoint in it")
        if f"{top}/constants.pkl" in members:
            raise pickle.UnpicklingError("it is a TorchScript program")
        if len(members) != len(archive.infolist()):
            raise pickle.UnpicklingError("two of its parts have the same name")
        _check_content(archive, os.path.getsize(path))
        sizes = {
            name.removeprefix(f"{top}/data/"): info.file_size for name, info in members.items()
        }
        reader = _SizeChecker(io.BytesIO(archive.read(f"{top}/data.pkl")), sizes)
    reader.load()
    return reader.has_numpy


def _check_content(archive: zipfile.ZipFile, limit: int) -> None:
    """Compares every part with its checksum, which zipfile does while it reads."""
    infos = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise pickle.UnpicklingError("it is compressed, which torch.save does not do")
    # torch's reader leaves the memory of a folder, by MS-DOS's mark, as it finds it.
    if any(info.external_attr & 0x10 for info in infos):
        raise zipfile.BadZipFile("one of its parts is a folder")
    if sum(info.file_size for info in infos) > limit:
        raise pickle.UnpicklingError("its parts are larger than itself")
    if not any(info.CRC for info in infos):
        # torch.serialization.set_crc32_options(False) leaves them out.
        for info in infos:
            info.CRC = None
    for info in infos:
        with archive.open(info) as stream:
            while stream.read(_BLOCK):
                pass


class _Skipped:
    """Stands for what only torch itself makes."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(_Skipped):
    """A storage's type with the bytes of an element, and then one of its storages."""

    def __init__(self, itemsize: int, number: int = 0) -> None:
        self.itemsize = itemsize
        self.number = number


class _SizeChecker(ArrayUnpickler):
    """Walks through a checkpoint's pickle without making a tensor, and compares sizes.

    Attributes:
        has_numpy: whether NumPy values came up.
    """

    stateful = (*ArrayUnpickler.stateful, _Skipped)

    def __init__(self, stream: io.BytesIO, sizes: dict[str, int]) -> None:
        super().__init__(stream)
        self.sizes = sizes
        self.has_numpy = False

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if module != "torch" and not module.startswith("torch."):
            self.has_numpy = self.has_numpy or full in NUMPY_GLOBALS
            return super().find_class(module, name)
        if full == "torch._utils._rebuild_tensor_v2":
            return _check_extent
        return _Storage(_ITEM_SIZES[name]) if name in _ITEM_SIZES else _Skipped

    def persistent_load(self, reference: Any) -> _Storage:
        """One of the storages, which must be as large as it claims."""
        _, kind, key, _, number = reference
        if not isinstance(kind, _Storage) or number * kind.itemsize != self.sizes.get(key):
            raise pickle.UnpicklingError("a tensor's size does not fit its content")
        return _Storage(kind.itemsize, number)


def _check_extent(storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> _Skipped:
    """Stands for torch's function, which would enlarge a storage that is too small."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or (all(size) and last >= storage.number):
        raise pickle.UnpicklingError("a tensor's size does not fit its content")
    return _Skipped()

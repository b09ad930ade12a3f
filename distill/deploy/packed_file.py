"""The packed file: safetensors with a header, whole or refused.

Beside the tensors the file has safetensors' metadata, strings all of them:

- ``format``: ``distill-packed-detector``; ``format_version``: ``1``;
- ``library_version``: of this library when it wrote the file;
- ``config``: the student's config as plain YAML;
- ``num_classes`` and ``class_names``, a JSON list that is empty where the names are not known;
- ``sha256``: of all other metadata and of every tensor's name, type, shape and bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill.utils.checkpoint import CheckpointError
from distill.utils.files import atomic_write, load_json
from distill.utils.weight_files import PACKED_FORMAT, SAFETENSORS

__all__ = ["SUFFIX", "PackedHeader", "read_packed", "write_packed"]

SUFFIX = SAFETENSORS
_VERSION = "1"


@dataclasses.dataclass(frozen=True)
class PackedHeader:
    """What a packed file says about its detector.

    Attributes:
        config: the student's config, YAML.
        num_classes: number of foreground classes.
        class_names: their names; () where they are not known.
        library_version: of this library when it wrote the file.
    """

    config: str
    num_classes: int
    class_names: tuple[str, ...]
    library_version: str


def write_packed(path: Path, header: PackedHeader, tensors: Mapping[str, Tensor]) -> None:
    """Writes a packed file, whole or not at all.

    Args:
        path: the file; one that exists is replaced.
        header: its header.
        tensors: name -> tensor on the CPU, each with memory of its own.

    Raises:
        OSError: if the file can't be written.
    """
    metadata = {
        "format": PACKED_FORMAT,
        "format_version": _VERSION,
        "library_version": header.library_version,
        "config": header.config,
        "num_classes": str(header.num_classes),
        "class_names": json.dumps(header.class_names),
    }
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata["sha256"] = _checksum(metadata, contiguous)
    content = save(contiguous, metadata=metadata)
    atomic_write(path, lambda stream: stream.write(content))


def read_packed(path: str | os.PathLike[str]) -> tuple[PackedHeader, dict[str, Tensor]]:
    """Reads a packed file; nothing in it can run code.

    Args:
        path: the file.

    Returns:
        Its header, and name -> tensor on the CPU, which may share the mapped file's memory.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, not a packed file, or of another format version.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"The packed file {path} does not exist: correct its path.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            _check_format(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged or is not a packed detector ({str(error).rstrip('.')}): copy or "
            "export it again."
        ) from error
    expected = metadata.pop("sha256", None)
    if expected != _checksum(metadata, tensors):
        raise CheckpointError(
            f"{path} is damaged (its content does not match its checksum): copy or export it again."
        )
    return _header(path, metadata), tensors


def _header(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> PackedHeader:
    try:
        number = int(metadata["num_classes"])
        names = tuple(load_json(metadata["class_names"]))
        if len(names) not in (0, number) or not all(isinstance(name, str) for name in names):
            raise ValueError
        return PackedHeader(metadata["config"], number, names, metadata["library_version"])
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} was not written by this library: the header of a packed detector has config, "
            "num_classes, class_names and library_version."
        ) from error


def _check_format(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != PACKED_FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file but not a packed detector: write one with "
            "export_student.py --format packed."
        )
    version = metadata.get("format_version")
    if version != _VERSION:
        raise CheckpointError(
            f"{path} has format version {version} and this library reads version {_VERSION}: "
            "export it again with this library, or install the one that wrote it "
            f"({metadata.get('library_version')})."
        )


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

"""Checkpoints that load without running code and are written whole or not at all."""

from __future__ import annotations

import os
import pickle
import re
import urllib.error
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from distill.utils.files import atomic_write, first_line

__all__ = ["CheckpointError", "SafeCheckpointer"]

# Where a training can't save.
_ADVICE = "free disk space or choose another OUTPUT_DIR, then continue with --resume"
_LAST = "last_checkpoint"
_DAMAGED = "{} is damaged or is not a checkpoint ({}): copy or download it again."

# All that arrays and plain containers need; each name is harmless whatever its arguments.
_ALLOWED_GLOBALS = {
    "builtins": {"bytearray", "complex", "dict", "frozenset", "list", "set", "slice", "tuple"},
    "collections": {"OrderedDict"},
    "_codecs": {"encode"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
}


class CheckpointError(ValueError):
    """A checkpoint that can't be read or must not be."""


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if name not in _ALLOWED_GLOBALS.get(module, ()):
            raise _RefusedGlobal(f"{module}.{name}")
        return super().find_class(module, name)


class _RefusedGlobal(pickle.UnpicklingError):
    pass


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, safe against code in files and against interrupted writes.

    Attributes:
        incompatible: what the last :meth:`load` could not match, with ``missing_keys``,
            ``unexpected_keys`` and ``incorrect_shapes``; None before the first load.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        """Same arguments as Detectron2's checkpointer."""
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.incompatible: Any = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a checkpoint; see Detectron2's checkpointer.

        Raises:
            FileNotFoundError: if a local path does not exist.
            CheckpointError: if the file is damaged, would run code, or can't be fetched.
        """
        if path and "://" not in path and not os.path.isfile(path.partition("?")[0]):
            raise FileNotFoundError(f"The checkpoint {path} does not exist: correct its path.")
        try:
            return super().load(path, *args, **kwargs)
        except urllib.error.URLError as error:
            raise CheckpointError(
                f"{path} could not be downloaded ({error.reason}): download it elsewhere and give "
                "the file's path instead."
            ) from error
        finally:
            # Detectron2's main branch would refuse every later load after one that failed.
            if hasattr(self, "_parsed_url_during_load"):
                self._parsed_url_during_load = None

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes model, checkpointables and kwargs to ``<save_dir>/<name>.pth``.

        The file, and the note of the last checkpoint, appear whole or stay as they were.

        Raises:
            OSError: if the file can't be written.
            TypeError: if something other than tensors and plain Python values is to be saved.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: item.state_dict() for key, item in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **_plain({**state, **kwargs}, name)}
        self.write(name, data)
        self.tag_last_checkpoint(f"{name}.pth")

    def write(self, name: str, data: dict[str, Any]) -> None:
        """Writes data to ``<save_dir>/<name>.pth``, without noting it as the last checkpoint.

        Raises:
            OSError: if the file can't be written.
        """
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        atomic_write(path, lambda stream: torch.save(data, stream), advice=_ADVICE)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Notes the file to resume from."""
        text = last_filename_basename.encode()
        atomic_write(Path(self.save_dir, _LAST), lambda stream: stream.write(text))

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".safetensors"):
            raise CheckpointError(
                f"{filename} is a packed student, which can only be evaluated (--eval-only): to "
                "train on, set MODEL.WEIGHTS to the checkpoint that it was exported from."
            )
        if filename.endswith(".pkl"):
            return _zoo_checkpoint(_load_pickle(filename))
        data = _load_torch(filename)
        if filename.endswith(".pyth"):
            return _pycls_checkpoint(filename, data)
        if "model" not in data:
            data = {"model": data}
        url = getattr(self, "_parsed_url_during_load", None)
        query = parse_qs(url.query) if url is not None else {}
        if query.get("matching_heuristics") == ["True"]:
            data["matching_heuristics"] = True
        return data

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        self.incompatible = super()._load_model(checkpoint)
        # The methods' own layers mean nothing to a student that is loaded without its teacher.
        unexpected = self.incompatible.unexpected_keys
        unexpected[:] = [key for key in unexpected if not key.startswith("distill.")]
        return self.incompatible


def _load_torch(filename: str) -> dict[str, Any]:
    try:
        data = torch.load(filename, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise CheckpointError(_DAMAGED.format(filename, first_line(error))) from error
        raise CheckpointError(_refusal(filename, refused[1])) from error
    except (RuntimeError, EOFError, KeyError, ValueError, IndexError) as error:
        raise CheckpointError(_DAMAGED.format(filename, first_line(error))) from error
    if not isinstance(data, dict):
        raise CheckpointError(_DAMAGED.format(filename, f"it holds a {type(data).__name__}"))
    return data


def _load_pickle(filename: str) -> dict[str, Any]:
    try:
        with open(filename, "rb") as stream:
            data = _ArrayUnpickler(stream, encoding="latin1").load()
    except _RefusedGlobal as error:
        raise CheckpointError(_refusal(filename, str(error))) from error
    except Exception as error:  # pickle raises almost anything on damaged input
        raise CheckpointError(_DAMAGED.format(filename, first_line(error))) from error
    if not isinstance(data, dict):
        raise CheckpointError(_DAMAGED.format(filename, f"it holds a {type(data).__name__}"))
    return data


def _zoo_checkpoint(data: dict[str, Any]) -> dict[str, Any]:
    if "model" in data and "__author__" in data:
        return data
    # Detectron1 keeps detectors, unlike ImageNet weights, under "blobs".
    blobs = data.get("blobs", data)
    weights = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _pycls_checkpoint(filename: str, data: dict[str, Any]) -> dict[str, Any]:
    if "model_state" not in data:
        raise CheckpointError(f"{filename} has no 'model_state': it is not a pycls checkpoint.")
    weights = data["model_state"].items()
    kept = {key: value for key, value in weights if not key.endswith("num_batches_tracked")}
    return {"model": kept, "__author__": "pycls", "matching_heuristics": True}


def _refusal(filename: str, name: str) -> str:
    return (
        f"{filename} was refused because reading it would call {name}, and so could run any code: "
        "use a checkpoint that holds only arrays and plain values."
    )


def _plain(value: Any, where: str) -> Any:
    """Turns NumPy values into Python's, since ``weights_only`` loading refuses them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        plain = {_plain(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
        return OrderedDict(plain) if isinstance(value, OrderedDict) else plain
    if isinstance(value, (list, tuple, set)):
        return type(value)(_plain(item, where) for item in value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.Tensor)):
        return value
    raise TypeError(
        f"{where} holds a {type(value).__name__}, which a checkpoint can't: let state_dict() "
        "return tensors and plain Python values."
    )

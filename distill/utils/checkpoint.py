"""Checkpoints that load without running code and are written whole or not at all."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import nn

from distill.utils.files import atomic_write, first_line
from distill.utils.model_zoo import is_in_zoo, zoo_checkpoint
from distill.utils.weight_files import CheckpointError, read_weight_file
from distill.utils.weight_layouts import check_values, weights_of

__all__ = ["CheckpointError", "SafeCheckpointer"]

# Where a training can't save.
_ADVICE = "free disk space or choose another OUTPUT_DIR, then continue with --resume"
_LAST = "last_checkpoint"
_HEURISTICS = "matching_heuristics"


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
        # Of the file that is being loaded.
        self._file = ""
        self._heuristics = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a checkpoint; see Detectron2's checkpointer.

        Beside its paths and URLs it takes model_zoo://<config path>, and behind a path
        ?matching_heuristics=True with any Detectron2.

        Raises:
            FileNotFoundError: if a local path does not exist.
            CheckpointError: if the file is damaged, would run code, or can't be fetched.
        """
        if is_in_zoo(path):
            path = zoo_checkpoint(path, "MODEL.WEIGHTS")
        is_local = "://" not in path
        if path and is_local:
            path = self._local(path)
        try:
            return super().load(path, *args, **kwargs)
        except (OSError, AssertionError) as error:
            if is_local:
                raise
            reason = getattr(error, "reason", None) or first_line(error)
            raise CheckpointError(
                f"{path} could not be downloaded ({reason}): download it elsewhere and give "
                "the file's path instead."
            ) from error
        finally:
            self._heuristics = False
            # Detectron2's main branch would refuse every later load after one that failed.
            if hasattr(self, "_parsed_url_during_load"):
                self._parsed_url_during_load = None

    def _local(self, path: str) -> str:
        """A local path without its query."""
        if not os.path.isfile(path):
            file, _, query = path.partition("?")
            self._heuristics = parse_qs(query) == {_HEURISTICS: ["True"]}
            path = file if self._heuristics or not query else path
        if os.path.isdir(path):
            raise FileNotFoundError(f"The checkpoint {path} is a folder: name a file in it.")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"The checkpoint {path} does not exist: correct its path.")
        return path

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
        self._file = filename
        data = weights_of(filename, read_weight_file(filename))
        url = getattr(self, "_parsed_url_during_load", None)
        query = parse_qs(url.query) if url is not None else {}
        if self._heuristics or query.get(_HEURISTICS) == ["True"]:
            data[_HEURISTICS] = True
        return data

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        own = self.model.state_dict()
        if checkpoint.pop(_HEURISTICS, False):
            author = checkpoint.get("__author__")
            checkpoint["model"] = self._aligned(own, checkpoint["model"], author == "Caffe2")
        check_values(self._file, checkpoint["model"], own)
        self.incompatible = super()._load_model(checkpoint)
        # The methods' own layers mean nothing to a student that is loaded without its teacher.
        unexpected = self.incompatible.unexpected_keys
        unexpected[:] = [key for key in unexpected if not key.startswith("distill.")]
        return self.incompatible

    def _aligned(self, own: dict[str, Any], weights: dict[str, Any], caffe2: bool) -> Any:
        """Weights under the model's names, as far as Detectron2's heuristics find them."""
        try:
            return align_and_update_state_dicts(own, weights, c2_conversion=caffe2)
        except (ValueError, AssertionError, LookupError, RuntimeError) as error:
            raise CheckpointError(
                f"The names in {self._file} can't be matched with the model's "
                f"({first_line(error)}): give weights that have the model's own names."
            ) from error


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

"""Where checkpoints of different programs keep their weights, and what weights may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.utils.weight_files import CheckpointError
from distill.utils.wording import some_of

__all__ = ["check_values", "weights_of"]

# Detectron2's, and then mmdetection's, Lightning's and other trainers'.
_PLACES = ("model", "state_dict", "model_state_dict")
_FRACTIONS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def weights_of(path: str, data: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint in the form that Detectron2's checkpointer loads, its weights as tensors.

    Args:
        path: the file, whose suffix .pkl or .pyth tells the model zoos' own layouts.
        data: its content.

    Returns:
        Its weights under "model", beside what else it holds.

    Raises:
        CheckpointError: one sentence, if it holds no weights.
    """
    if path.endswith(".pyth"):
        data = _pycls_checkpoint(path, data)
    place = next((key for key in _PLACES if isinstance(data.get(key), dict)), None)
    if place is not None:
        data = {**data, "model": data[place]}
    elif path.endswith(".pkl"):
        data = _caffe2_checkpoint(data)
    else:
        data = {"model": data}
    weights = data["model"]
    if not any(isinstance(value, (Tensor, np.ndarray)) for value in weights.values()):
        raise CheckpointError(
            f"{path} has no weights under {', '.join(_PLACES)} or by themselves (it holds "
            f"{some_of([str(key) for key in weights]) or 'nothing'}): give a checkpoint."
        )
    # In place: a state dict has attributes beside its entries.
    for name in list(weights):
        weights[name] = _as_tensor(path, name, weights[name])
    return data


def check_values(path: str, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuses what would be loaded without a word and make no detector.

    Args:
        path: the file, for the message.
        weights: its weights.
        own: those of the model.

    Raises:
        CheckpointError: one sentence, if the model's fractions are integers in the file or the
            like, or are not finite.
    """
    for name, value in weights.items():
        expected = own.get(name.removeprefix("module."))
        if expected is None or not expected.is_floating_point():
            continue
        if value.dtype not in _FRACTIONS or value.layout != torch.strided or value.is_meta:
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{path} holds {name} as {kind}, in place of ordinary fractions, as a quantized "
                "or empty model does: give the checkpoint that it was made from."
            )
        # The sum is ten times as fast, and finite only where all values are.
        if not value.sum().isfinite() and not value.isfinite().all():
            raise CheckpointError(
                f"{path} holds infinite values or NaN in {name}, as a training that diverged "
                "leaves them: give an earlier checkpoint."
            )


def _as_tensor(path: str, name: Any, value: Any) -> Tensor:
    if isinstance(name, str) and isinstance(value, Tensor):
        return value
    if isinstance(name, str) and isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        array = np.array(value)
        if array.dtype.kind in "biufc":
            # Only in the machine's own order of bytes.
            return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    raise CheckpointError(
        f"{path} holds a {type(value).__name__} as the weight {name}: give a checkpoint whose "
        "weights are tensors or arrays."
    )


def _caffe2_checkpoint(data: dict[str, Any]) -> dict[str, Any]:
    # Detectron1 keeps detectors, unlike ImageNet weights, under "blobs".
    blobs = data["blobs"] if isinstance(data.get("blobs"), dict) else data
    weights = {key: value for key, value in blobs.items() if not str(key).endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _pycls_checkpoint(path: str, data: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(data.get("model_state"), dict):
        raise CheckpointError(f"{path} has no 'model_state': it is not a pycls checkpoint.")
    weights = data["model_state"].items()
    kept = {key: value for key, value in weights if not str(key).endswith("num_batches_tracked")}
    return {"model": kept, "__author__": "pycls", "matching_heuristics": True}

"""Changes of a checkpoint: what was done, the suffix to write it with, and what must follow."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from fuzz.judge import Expected

Content = dict[str, Any]
Changed = tuple[str, str, Expected, Any]
Mutation = Callable[[Content, random.Random], Changed]

MUTATIONS: dict[str, Mutation] = {}


class _Runs:
    """A pickle that makes a file when it is read."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


class Object:
    """Of a class that is not the library's."""


def mutation(change: Mutation) -> Mutation:
    """Decorates a change."""
    MUTATIONS[change.__name__] = change
    return change


def written(content: Any, path: Path) -> None:
    """Writes content by the suffix of its path."""
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in content.items()}, path)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)


@mutation
def other_writing(content: Content, rng: random.Random) -> Changed:
    weights = content["model"]
    arrays = {key: value.numpy() for key, value in weights.items()}
    ways: list[tuple[str, str, Any]] = [
        ("a plain state dict", ".pth", dict(weights)),
        ("a plain state dict", ".safetensors", dict(weights)),
        ("arrays", ".pth", {"model": arrays}),
        ("arrays", ".pkl", {"model": arrays, "__author__": "me"}),
        ("under module.", ".pth", {"model": {f"module.{k}": v for k, v in weights.items()}}),
        ("with adapters", ".pth", {"model": {**weights, "distill.adapters.0": torch.ones(2)}}),
        ("with NumPy's numbers", ".pth", {**content, "epoch": np.int64(3), "ap": np.float32(0.5)}),
        ("with other things", ".pth", {**content, "args": {"lr": 0.1, "names": ["a"]}, "x": None}),
        ("without counters", ".pth", {"model": _without_counters(weights)}),
        ("in another order", ".pth", {"model": dict(reversed(weights.items()))}),
        ("parameters", ".pth", {"model": _parameters(weights)}),
        ("not contiguous", ".pth", {"model": {k: _strided(v) for k, v in weights.items()}}),
    ]
    what, suffix, changed = rng.choice(ways)
    return what, suffix, "same", changed


@mutation
def no_weights(content: Content, rng: random.Random) -> Changed:
    ways = ([], 5, "text", {}, {"model": {}}, {"model": None}, {"model": []}, None, torch.ones(3))
    ways += ({"model": {"a": "b"}}, {"model": {5: torch.ones(1)}}, {"model": torch.ones(2)})
    ways += ({"weights": 3}, [content], {"model": {"model": content["model"]}}, {"model": 7})
    changed = rng.choice(ways)
    suffix = rng.choice((".pth", ".pth", ".pkl"))
    if suffix == ".pkl" and isinstance(changed, dict | list):
        suffix = ".pth"
    return f"{str(changed)[:60]!r}", suffix, "refused", changed


@mutation
def foreign(content: Content, rng: random.Random) -> Changed:
    weights = content["model"]
    ways: list[tuple[str, Any]] = [
        ("of other names", {"model": {f"net.{i}": v for i, v in enumerate(weights.values())}}),
        ("of mmdetection", {"meta": {}, "state_dict": _as_mmdetection(weights)}),
        ("of torchvision", {f"layer1.{i}.conv1.weight": torch.ones(3) for i in range(9)}),
        ("under student.", {"model": {f"student.net.{k}": v for k, v in weights.items()}}),
        ("of Lightning", {"state_dict": {f"model.x.{k}": v for k, v in weights.items()}}),
    ]
    what, changed = rng.choice(ways)
    return what, ".pth", "refused", changed


@mutation
def foreign_safetensors(content: Content, rng: random.Random) -> Changed:
    changed = {f"net.{i}": v for i, v in enumerate(content["model"].values())}
    return "of other names", ".safetensors", "refused", changed


@mutation
def partly(content: Content, rng: random.Random) -> Changed:
    weights = content["model"]
    kept = rng.sample(sorted(weights), rng.randrange(1, len(weights) // 2))
    return f"{len(kept)} of {len(weights)}", ".pth", "refused", {"model": _only(weights, kept)}


@mutation
def other_shapes(content: Content, rng: random.Random) -> Changed:
    ways: list[tuple[str, Callable[[Any], Any]]] = [
        ("a row more", lambda v: torch.cat([v, v[:1]]) if v.dim() else v[None]),
        ("flat", lambda v: v.reshape(-1)[None]),
        ("empty", lambda v: v.reshape(-1)[:0]),
        ("transposed", lambda v: torch.ones(7, 3)),
    ]
    what, change = rng.choice(ways)
    changed = {k: change(v) for k, v in content["model"].items()}
    return f"shapes: {what}", ".pth", "refused", {"model": changed}


@mutation
def other_types(content: Content, rng: random.Random) -> Changed:
    ways: list[tuple[str, Expected, Callable[[Any], Any]]] = [
        ("whole numbers", "refused", lambda v: (v * 10).int()),
        ("half", "either", lambda v: v.half() if v.is_floating_point() else v),
        ("double", "same", lambda v: v.double() if v.is_floating_point() else v),
        ("complex", "refused", lambda v: v + 0j),
        ("bool", "refused", lambda v: v > 0),
        ("lists", "refused", lambda v: v.tolist()),
        ("sparse", "either", lambda v: v.to_sparse()),
        ("quantized", "refused", _quantized),
        ("text", "refused", lambda v: str(v)),
        ("nothing", "refused", lambda v: None),
    ]
    what, expected, change = rng.choice(ways)
    changed = {k: change(v) for k, v in content["model"].items()}
    return f"weights are {what}", ".pth", expected, {**content, "model": changed}


@mutation
def not_finite(content: Content, rng: random.Random) -> Changed:
    weights = dict(content["model"])
    value = rng.choice((float("nan"), float("inf")))
    names = [key for key, tensor in weights.items() if tensor.is_floating_point()]
    for key in rng.sample(names, rng.choice((1, len(names)))):
        weights[key] = torch.full_like(weights[key], value)
    return f"weights are {value}", ".pth", "refused", {**content, "model": weights}


@mutation
def code(content: Content, rng: random.Random) -> Changed:
    suffix = rng.choice((".pth", ".pkl"))
    ways = (_Runs(), {"model": content["model"], "x": _Runs()}, {"model": {"a": _Runs()}}, Object())
    return "code", suffix, "refused", rng.choice(ways)


def _without_counters(weights: Content) -> Content:
    return {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}


def _only(weights: Content, kept: list[str]) -> Content:
    return {key: weights[key] for key in kept}


def _parameters(weights: Content) -> Content:
    return {k: torch.nn.Parameter(v, requires_grad=False) for k, v in weights.items()}


def _as_mmdetection(weights: Content) -> Content:
    return {f"bbox_head.cls_convs.{i}.conv.weight": v for i, v in enumerate(weights.values())}


def _strided(tensor: torch.Tensor) -> torch.Tensor:
    return torch.stack([tensor, tensor], dim=-1)[..., 0]


def _quantized(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)

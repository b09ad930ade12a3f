"""From a packed file back to a detector."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from distill.config import add_distill_config, student_config
from distill.deploy.export import stored_state
from distill.deploy.packed_file import SUFFIX, PackedHeader, read_packed
from distill.deploy.packed_layers import (
    binary_layers,
    packed_layer,
    replace_layers,
    unpacked_layer,
    without_binary_weights,
)
from distill.utils.checkpoint import CheckpointError
from distill.utils.config_files import merge_tree
from distill.utils.weight_files import is_packed_file
from distill.utils.wording import some_of
from distill.utils.yaml_data import parse_yaml
from distill.views.classes import class_names, num_classes

__all__ = ["is_packed", "load_packed"]


def is_packed(weights: str) -> bool:
    """Whether weights are a packed file, by its header, or by its name if it does not exist.

    Raises:
        CheckpointError: if a file of safetensors is damaged.
    """
    return is_packed_file(weights) if os.path.isfile(weights) else weights.endswith(SUFFIX)


def load_packed(
    path: str | os.PathLike[str],
    *,
    cfg: CfgNode | None = None,
    unpack: bool = False,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Loads the detector of a packed file, for evaluation.

    Its outputs are those of the detector that was exported, bit for bit on the same machine. The
    1-bit weights stay packed and are unpacked one layer at a time; neither loading nor evaluating
    holds more than one layer of them in float32. Nothing in the file can run code.

    Args:
        path: a file that ``export_packed`` wrote.
        cfg: the config to build the detector with, or that of its Distiller; None takes the one
            in the file. Either must describe the same network; thresholds and the like may differ.
        unpack: give ordinary BinaryConv2d layers, with learned scales, which can be trained.
        device: where to put the detector.

    Returns:
        The detector in eval mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, not a packed file, of another format version, or does not fit
            the config.
    """
    header, tensors = read_packed(path)
    if cfg is None:
        _check_size(path, header, tensors)
    model = _build(path, header, cfg, device)
    if cfg is not None:
        _check_classes(path, header, cfg, model)
    replace_layers(model, packed_layer)
    _check_tensors(path, stored_state(model), tensors)
    _check_precisions(path, model, tensors)
    # Not strict: of tensors with several names the file has one.
    model.load_state_dict(tensors, strict=False)
    if unpack:
        replace_layers(model, unpacked_layer)
    return model.to(device).eval()


def _build(
    path: str | os.PathLike[str],
    header: PackedHeader,
    cfg: CfgNode | None,
    device: str | torch.device,
) -> nn.Module:
    """The detector of a config, its 1-bit weights on the meta device."""
    own = student_config(_file_config(path, header) if cfg is None else cfg)
    own.defrost()
    own.MODEL.DEVICE = str(device)
    try:
        with without_binary_weights():
            return META_ARCH_REGISTRY.get(own.MODEL.META_ARCHITECTURE)(own)
    except CheckpointError:
        raise
    except Exception as error:  # a file's config can be anything
        if cfg is not None:
            raise
        raise _unfit_config(path, header, error) from error


def _check_size(
    path: str | os.PathLike[str], header: PackedHeader, tensors: Mapping[str, Tensor]
) -> None:
    """Compares the detector of the file's own config with the file, before it takes any memory."""
    # Some layers register a parameter anew; a config that asks for millions is stopped early.
    limit = 4 * len(tensors) + 100

    def count(*registered: Any) -> None:
        nonlocal limit
        limit -= 1
        if limit < 0:
            raise CheckpointError(
                f"{path} has tensors for a smaller detector than its config describes: copy or "
                "export it again."
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            model = _build(path, header, None, "cpu")
            replace_layers(model, packed_layer)
    finally:
        handle.remove()
    if num_classes(model) != header.num_classes:
        raise CheckpointError(
            f"{path} says {header.num_classes} classes and its config {num_classes(model)}: export "
            "it again."
        )
    _check_tensors(path, stored_state(model), tensors)


def _file_config(path: str | os.PathLike[str], header: PackedHeader) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    try:
        name = f"the header of {os.path.basename(path)}"
        merge_tree(cfg, dict(parse_yaml(header.config, name)), name)
    except Exception as error:  # a file's config can be anything
        raise _unfit_config(path, header, error) from error
    return cfg


def _unfit_config(
    path: str | os.PathLike[str], header: PackedHeader, error: Exception
) -> CheckpointError:
    reason = " ".join(str(error.args[0] if error.args else error).split()).rstrip(".")
    # Some of torch's errors are pages long.
    reason = reason if len(reason) < 200 else f"{reason[:200]} ..."
    return CheckpointError(
        f"The config in {path} does not make a detector here ({reason}): load it with version "
        f"{header.library_version} of this library, which wrote it."
    )


def _check_classes(
    path: str | os.PathLike[str], header: PackedHeader, cfg: CfgNode, model: nn.Module
) -> None:
    count, names = num_classes(model), class_names(cfg)
    if header.num_classes != count:
        difference = f"{header.num_classes} classes and the config {count}"
    elif header.class_names and names and header.class_names != names:
        difference = f"classes of other names or another order than the config's {names[0]}, ..."
    else:
        return
    raise ValueError(
        f"{path} has {difference}: evaluate it with the config that it was exported with."
    )


def _check_tensors(
    path: str | os.PathLike[str], expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    both = tensors.keys() & expected.keys()
    for names, complaint in (
        (tensors.keys() - both, "has tensors that the config's detector lacks"),
        (expected.keys() - both, "lacks tensors of the config's detector"),
        (
            {k for k in both if _kind(tensors[k]) != _kind(expected[k])},
            "has tensors of another shape or type than the config's detector",
        ),
    ):
        _refuse(path, names, complaint)


def _check_precisions(
    path: str | os.PathLike[str], model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    precisions = {f"{name}.precision": x.precision for name, x in binary_layers(model).items()}
    # A layer with several names has one of them in the file.
    changed = {
        k for k in precisions.keys() & tensors.keys() if not torch.equal(tensors[k], precisions[k])
    }
    complaint = "has layers of another precision than MODEL.BINARY of the config says"
    _refuse(path, changed, complaint)


def _refuse(path: str | os.PathLike[str], names: Collection[str], complaint: str) -> None:
    if names:
        raise ValueError(
            f"{path} {complaint} ({some_of(sorted(names))}): use the config that it was "
            "exported with."
        )


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype

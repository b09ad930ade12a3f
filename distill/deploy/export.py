"""A trained student leaves: as a plain checkpoint, or packed to one bit a 1-bit weight."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from distill.build import said_of_keys
from distill.config import student_config
from distill.deploy.analysis import Cost, layer_cost
from distill.deploy.packed_file import SUFFIX, PackedHeader, write_packed
from distill.deploy.packed_layers import binary_layers, check_two_values, packed_state
from distill.utils.checkpoint import SafeCheckpointer
from distill.utils.coverage import check_complete, measure_coverage
from distill.utils.files import atomic_write
from distill.utils.version import VERSION
from distill.views.classes import class_names, num_classes

__all__ = ["PackedReport", "build_student", "export_packed", "export_plain", "stored_state"]


@dataclasses.dataclass(frozen=True)
class PackedReport:
    """What an export was verified to hold.

    Attributes:
        layers: number of 1-bit convolutions, each of them verified.
        binary_weights: number of their weights.
        counted_bytes: of convolutions and fully connected layers: one bit a 1-bit weight, four
            bytes any other number (real weights, biases, one alpha per output channel).
        file_bytes: size of the file.
    """

    layers: int
    binary_weights: int
    counted_bytes: float
    file_bytes: int

    def __str__(self) -> str:
        return (
            f"Verified: all {self.layers} 1-bit layers ({self.binary_weights:,} weights) hold no "
            "values but alpha and -alpha in each output channel.\n"
            f"File: {self.file_bytes / 1e6:.2f} MB; counted: {self.counted_bytes / 1e6:.2f} MB "
            "(convolutions and fully connected layers, 1 bit or 4 bytes a weight)."
        )


def build_student(cfg: CfgNode, weights: str) -> nn.Module:
    """Builds the student of a config, without any teacher, and loads its weights.

    Args:
        cfg: of a detector, or of a Distiller.
        weights: a checkpoint, which must cover the student.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if it is damaged or does not cover the student.
    """
    cfg = student_config(cfg)
    with said_of_keys():
        model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(weights)
    found = measure_coverage(model, checkpointer.incompatible)
    check_complete(found, weights, key="--weights", config_key="--config-file", whose="student's")
    return model.eval()


def export_plain(model: nn.Module, path: Path) -> None:
    """Writes an ordinary Detectron2 checkpoint of a student.

    Args:
        model: the student.
        path: the file; one that exists is replaced.

    Raises:
        OSError: if the file can't be written.
    """
    atomic_write(path, lambda stream: torch.save({"model": model.state_dict()}, stream))


def export_packed(model: nn.Module, cfg: CfgNode, path: Path) -> PackedReport:
    """Verifies a 1-bit student and writes it as a packed file.

    The file holds, under Detectron2's own names, everything of the state dict except the 1-bit
    convolutions' weights and scales, in whose place each has ``packed_weight`` (bits) and
    ``alphas``; for its header see :mod:`distill.deploy.packed_file`.

    Args:
        model: the student, on the CPU.
        cfg: its config, or that of its Distiller.
        path: the file, which must end in .safetensors; one that exists is replaced.

    Raises:
        ValueError: if the student has no 1-bit layer, or one that holds other values than two in
            an output channel, or not as many classes as the config's dataset.
        OSError: if the file can't be written.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} would not be found to be packed: let its name end in {SUFFIX}.")
    layers = binary_layers(model)
    if not layers:
        raise ValueError(
            "The student has no 1-bit layer to pack: export with --format plain, or take a config "
            "with a 1-bit backbone."
        )
    tensors = stored_state(model)
    for name, layer in layers.items():
        check_two_values(name, layer)
        for own in layer.state_dict():
            tensors.pop(f"{name}.{own}", None)
        tensors.update({f"{name}.{key}": value for key, value in packed_state(layer).items()})
    header = _header(model, cfg)
    write_packed(path, header, tensors)
    counted = sum((layer_cost(module) for module in _counted(model)), Cost())
    size = counted.size_mb * 1e6
    return PackedReport(len(layers), counted.params_1bit, size, os.path.getsize(path))


def stored_state(model: nn.Module) -> dict[str, Tensor]:
    """What a file holds of a network: its state dict, each tensor once.

    Tensors with several names keep the first. Counters of batches are left out: they exist in some
    releases of PyTorch and Detectron2 only and do not change what a network computes.
    """
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen and not name.endswith("num_batches_tracked"):
            state[name] = tensor.detach()
            seen.add(id(tensor))
    return state


def _header(model: nn.Module, cfg: CfgNode) -> PackedHeader:
    count, names = num_classes(model), class_names(cfg)
    if names and len(names) != count:
        raise ValueError(
            f"The student predicts {count} classes, but DATASETS.TRAIN names {len(names)}: export "
            "with the config that it was trained with."
        )
    own = student_config(cfg)
    own.defrost()
    # Neither the teacher nor any path of this machine is the student's.
    del own["DISTILL"]
    del own["OUTPUT_DIR"]
    own.MODEL.WEIGHTS = ""
    return PackedHeader(own.dump(), count, names, VERSION)


def _counted(model: nn.Module) -> list[nn.Module]:
    counted = (nn.modules.conv._ConvNd, nn.Linear)
    return [module for module in model.modules() if isinstance(module, counted)]

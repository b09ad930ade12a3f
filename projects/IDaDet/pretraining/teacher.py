"""The real-valued network that gives the soft labels."""

from __future__ import annotations

import difflib
import logging
import os

import torch
import torchvision
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from distill.config import add_distill_config
from distill.utils.checkpoint import SafeCheckpointer
from distill.utils.config_files import merge_file
from distill.utils.wording import some_of
from distill.views.teacher import FrozenTeacher

__all__ = ["SoftLabelTeacher", "TorchvisionClassifier", "without_teacher"]

_logger = logging.getLogger(__name__)

# The statistics of torchvision's own weights, RGB in 0..255.
_PIXEL_MEAN = (123.675, 116.28, 103.53)
_PIXEL_STD = (58.395, 57.12, 57.375)


class TorchvisionClassifier(nn.Module):
    """A classification model of torchvision that normalizes its images itself."""

    def __init__(self, network: nn.Module) -> None:
        """Takes the network.

        Args:
            network: maps normalized (N, 3, H, W) images to (N, K) logits.
        """
        super().__init__()
        self.network = network
        self.register_buffer("pixel_mean", torch.tensor(_PIXEL_MEAN).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(_PIXEL_STD).view(-1, 1, 1), False)

    def logits(self, images: Tensor) -> Tensor:
        """Class logits, (N, K), of (N, 3, H, W) RGB images in 0..255."""
        return self.network((images - self.pixel_mean) / self.pixel_std)


class SoftLabelTeacher(FrozenTeacher):
    """A frozen classifier, hidden from the module that holds it."""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> SoftLabelTeacher | None:
        """Builds and verifies the teacher that PRETRAIN.TEACHER names, if it names one.

        Raises:
            ValueError, FileNotFoundError: one sentence, if the reference is wrong or the weights
                do not fit the model.
        """
        node = cfg.PRETRAIN.TEACHER
        if node.NAME and node.CONFIG_FILE:
            raise ValueError(
                "PRETRAIN.TEACHER has both a NAME and a CONFIG_FILE: leave one of them empty."
            )
        if node.NAME:
            network = _build_torchvision(node.NAME, cfg.PRETRAIN.NUM_CLASSES)
            model, channels = TorchvisionClassifier(network), "RGB"
        elif node.CONFIG_FILE:
            own = _teacher_config(cfg)
            network = model = META_ARCH_REGISTRY.get("BackboneClassifier")(own)
            channels = own.INPUT.FORMAT
        else:
            return None
        _load(network, cfg)
        model.to(torch.device(cfg.MODEL.DEVICE))
        return cls(model, swap_channels=cfg.INPUT.FORMAT != channels)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Class logits, (N, K), without gradient.

        Args:
            images: (N, 3, H, W) in 0..255, in the student's order of channels.
        """
        return self.model.logits(images.flip(1) if self.swap_channels else images)


def without_teacher(cfg: CfgNode) -> CfgNode:
    """A copy of a config that names no teacher."""
    own = cfg.clone()
    own.defrost()
    own.PRETRAIN.TEACHER.NAME = own.PRETRAIN.TEACHER.CONFIG_FILE = ""
    return own


def _build_torchvision(name: str, num_classes: int) -> nn.Module:
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3) or ["resnet34"]
        raise ValueError(
            f"PRETRAIN.TEACHER.NAME {name!r} is no classification model of torchvision: take one "
            f"of its list, such as {' or '.join(near)}."
        )
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes)


def _teacher_config(cfg: CfgNode) -> CfgNode:
    """The config of a teacher that was pre-trained here, on the student's device."""
    path = cfg.PRETRAIN.TEACHER.CONFIG_FILE
    teacher = get_cfg()
    add_distill_config(teacher)
    merge_file(teacher, path, key="PRETRAIN.TEACHER.CONFIG_FILE")
    teacher.MODEL.DEVICE = cfg.MODEL.DEVICE
    if teacher.PRETRAIN.NUM_CLASSES != cfg.PRETRAIN.NUM_CLASSES:
        raise ValueError(
            f"The teacher has {teacher.PRETRAIN.NUM_CLASSES} classes and the student "
            f"{cfg.PRETRAIN.NUM_CLASSES} (PRETRAIN.NUM_CLASSES of {path} and of this config): take "
            "a teacher of the same classes."
        )
    return without_teacher(teacher)


def _load(network: nn.Module, cfg: CfgNode) -> None:
    """Loads PRETRAIN.TEACHER.WEIGHTS and refuses what does not cover the network."""
    node = cfg.PRETRAIN.TEACHER
    if not node.WEIGHTS:
        if node.ALLOW_RANDOM:
            _logger.warning("The teacher keeps its RANDOM initialization.")
            return
        raise ValueError(
            "PRETRAIN.TEACHER.WEIGHTS is empty, which would leave the teacher at random weights: "
            "set it to the file of the teacher's weights."
        )
    if not os.path.isfile(node.WEIGHTS):
        raise FileNotFoundError(
            f"PRETRAIN.TEACHER.WEIGHTS {node.WEIGHTS} does not exist: correct its path, or "
            "download or train the teacher first."
        )
    checkpointer = SafeCheckpointer(network)
    checkpointer.load(node.WEIGHTS)
    found = checkpointer.incompatible
    # Weights of a deeper network cover a shallower one, which they do not make a teacher.
    wrong = [*found.missing_keys, *(x[0] for x in found.incorrect_shapes), *found.unexpected_keys]
    # The counters do not change what the network computes.
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
    if wrong:
        raise ValueError(
            f"PRETRAIN.TEACHER.WEIGHTS {node.WEIGHTS} does not fit the teacher (lacking, "
            f"superfluous or of another shape: {some_of(wrong)}): check that it belongs to "
            "PRETRAIN.TEACHER.NAME or CONFIG_FILE and to PRETRAIN.NUM_CLASSES."
        )

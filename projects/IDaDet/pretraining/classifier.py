"""A detector's backbone with a linear classifier on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import FPN, META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn
from torch.nn import functional as F

from distill.modeling.auxiliary_losses import add_auxiliary_losses
from distill.modeling.norm import FrozenStatsBatchNorm2d
from distill.modeling.ssd.vgg import SSDBackbone
from pretraining.losses import distribution_loss
from pretraining.teacher import SoftLabelTeacher

__all__ = ["BackboneClassifier"]


@META_ARCH_REGISTRY.register()
class BackboneClassifier(nn.Module):
    """Classifies images by the last stage of a detector's backbone, averaged over all places.

    What detectors add is left out: of a feature pyramid its bottom-up network is trained, of SSD's
    backbone VGG up to conv7. The keys in the state_dict are the detector's own, such as
    ``backbone.bottom_up.``, and the classifier's are ``linear.``. The teacher is in none of the
    module's parameters, buffers, modules or state.

    Attributes:
        teacher: gives the soft labels, or None.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        label_smoothing: float = 0.1,
        teacher: SoftLabelTeacher | None = None,
    ) -> None:
        """Takes what is to be pre-trained of a backbone.

        Args:
            backbone: a detector's backbone, with nothing frozen in what is pre-trained.
            num_classes: K.
            pixel_mean: one value a channel.
            pixel_std: one value a channel.
            label_smoothing: of the labels where there is no teacher.
            teacher: gives the soft labels.

        Raises:
            ValueError: some of the backbone is frozen.
        """
        super().__init__()
        name, trunk, self._feature, channels = _trunk(backbone)
        _check_trainable(trunk)
        # The keys of the state_dict are to be the detector's.
        self.backbone = nn.ModuleDict({name: trunk}) if name else trunk
        self._name = name
        self.linear = nn.Linear(channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.label_smoothing = label_smoothing
        self.teacher = teacher
        if teacher is not None:
            teacher.belong_to(self)
        add_auxiliary_losses(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments from MODEL and PRETRAIN."""
        return {
            "backbone": build_backbone(cfg),
            "num_classes": cfg.PRETRAIN.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "label_smoothing": cfg.PRETRAIN.LABEL_SMOOTHING,
            "teacher": SoftLabelTeacher.from_config(cfg),
        }

    @property
    def device(self) -> torch.device:
        """Where the images go."""
        return self.pixel_mean.device

    @property
    def trunk(self) -> nn.Module:
        """The network that is pre-trained."""
        return self.backbone[self._name] if self._name else self.backbone

    def images(self, batched_inputs: Sequence[dict]) -> Tensor:
        """The batch's images of one size, (N, C, H, W) float32 in 0..255, on the device."""
        images = torch.stack([torch.as_tensor(x["image"]) for x in batched_inputs])
        return images.to(self.device, non_blocking=True).float()

    def logits(self, images: Tensor) -> Tensor:
        """Class logits, (N, K).

        Args:
            images: (N, C, H, W) in 0..255.
        """
        features = self.trunk((images - self.pixel_mean) / self.pixel_std)
        if self._feature:
            features = features[self._feature]
        return self.linear(features.mean(dim=(2, 3)))

    def forward(self, batched_inputs: Sequence[dict]) -> dict[str, Tensor] | Tensor:
        """The losses, or the class logits in evaluation.

        Args:
            batched_inputs: one dict an image with ``image``, (C, H, W) in 0..255 and of one size
                throughout the batch, and in training ``label``, an integer.

        Returns:
            In training a dict of scalar losses, to which those of the layers themselves are
            added; else (N, K) logits.
        """
        images = self.images(batched_inputs)
        logits = self.logits(images)
        if not self.training:
            return logits
        if self.teacher is not None:
            return {"loss_soft_labels": distribution_loss(logits, self.teacher.logits(images))}
        labels = torch.tensor([x["label"] for x in batched_inputs]).to(self.device)
        smoothing = self.label_smoothing
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        return {"loss_labels": loss}

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> BackboneClassifier:
        """Moves or converts the module, and the teacher with it; a copy's leaves it alone."""
        super()._apply(fn, *args, **kwargs)
        if self.teacher is not None:
            self.teacher.follow(self, fn)
        return self


def _trunk(backbone: Backbone) -> tuple[str, nn.Module, str, int]:
    """What is pre-trained of a backbone, and what it gives to a classifier.

    Returns:
        The network's name in the backbone ("" for all of it), the network, the name of its output
        ("" where there is only one), and the channels of that.
    """
    if isinstance(backbone, SSDBackbone):
        return "vgg", backbone.vgg, "", backbone.output_shape()["fc7"].channels
    name = "bottom_up" if isinstance(backbone, FPN) else ""
    network = backbone.bottom_up if name else backbone
    shapes = network.output_shape()
    last = max(shapes, key=lambda key: shapes[key].stride)
    return name, network, last, shapes[last].channels


def _check_trainable(backbone: nn.Module) -> None:
    frozen_norms = (FrozenBatchNorm2d, FrozenStatsBatchNorm2d)
    norms = any(isinstance(module, frozen_norms) for module in backbone.modules())
    if norms or not all(parameter.requires_grad for parameter in backbone.parameters()):
        raise ValueError(
            "Some of the backbone is frozen, and would stay at its random initialization: set "
            "MODEL.BACKBONE.FREEZE_AT to 0 and its normalization (MODEL.BINARY.NORM or "
            "MODEL.RESNETS.NORM) to BN for pre-training."
        )

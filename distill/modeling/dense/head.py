"""A learned scale for the boxes of each level, as ATSS's and GFL's heads have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor, nn

__all__ = ["ScaledHead"]


class ScaledHead(RetinaNetHead):
    """RetinaNet's head for one anchor a location, whose boxes are scaled for each level.

    Attributes:
        scales: (L,) factor of each level's box predictions.
    """

    def __init__(self, *, input_shape: Sequence[ShapeSpec], **arguments: Any) -> None:
        """Builds the convolutions.

        Args:
            input_shape: of each level.
            arguments: see :func:`distill.modeling.dense.config.tower_arguments`.
        """
        super().__init__(input_shape=list(input_shape), **arguments)
        self.scales = nn.Parameter(torch.ones(len(input_shape)))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Predicts from the levels' maps.

        Args:
            features: (N, C, H, W) for each level.

        Returns:
            For each level logits (N, K, H, W), box predictions (N, D, H, W), and what else the
            class that is scaled predicts.
        """
        logits, boxes, *others = super().forward(features)
        return logits, [s * x for s, x in zip(self.scales, boxes, strict=True)], *others

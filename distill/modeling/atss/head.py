"""ATSS's head: FCOS's, with a learned scale for the boxes of each level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.fcos import FCOSHead
from torch import Tensor, nn

from distill.modeling.norm import head_norm

__all__ = ["ATSSHead"]


class ATSSHead(FCOSHead):
    """Logits, box deltas and centerness of one anchor a location (arXiv 1912.02424).

    Attributes:
        scales: (L,) factor of each level's deltas.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        num_convs: int = 4,
        norm: str = "GN",
        prior_prob: float = 0.01,
    ) -> None:
        """Builds the convolutions.

        Args:
            input_shape: of each level; all have the same channels, which all convolutions keep.
            num_classes: K.
            num_convs: 3x3 convolutions of each branch.
            norm: their normalization, see :func:`distill.modeling.norm.head_norm`.
            prior_prob: score that all classes start with.
        """
        super().__init__(
            input_shape=list(input_shape),
            num_classes=num_classes,
            conv_dims=[input_shape[0].channels] * num_convs,
            norm=head_norm(norm),
            prior_prob=prior_prob,
        )
        self.scales = nn.Parameter(torch.ones(len(input_shape)))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Predicts from the levels' maps.

        Args:
            features: (N, C, H, W) for each level.

        Returns:
            For each level logits (N, K, H, W), box deltas (N, 4, H, W) and logits of the
            centerness (N, 1, H, W).
        """
        logits, deltas, centerness = super().forward(features)
        return logits, [s * x for s, x in zip(self.scales, deltas, strict=True)], centerness

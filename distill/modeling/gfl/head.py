"""GFL's head: scores, and a distribution for each side of the box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor, nn

from distill.modeling.norm import head_norm

__all__ = ["GFLHead"]


class GFLHead(RetinaNetHead):
    """RetinaNet's head with distributions for boxes, scaled for each level (arXiv 2006.04388).

    Attributes:
        scales: (L,) factor of the logits of each level's distributions.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        num_convs: int = 4,
        norm: str = "GN",
        prior_prob: float = 0.01,
        reg_max: int = 16,
    ) -> None:
        """Builds the convolutions.

        Args:
            input_shape: of each level; all have the same channels, which all convolutions keep.
            num_classes: K.
            num_convs: 3x3 convolutions of each branch.
            norm: their normalization, see :func:`distill.modeling.norm.head_norm`.
            prior_prob: score that all classes start with.
            reg_max: largest distance, in strides, of a distribution of reg_max + 1 bins.
        """
        channels = input_shape[0].channels
        super().__init__(
            input_shape=list(input_shape),
            num_classes=num_classes,
            num_anchors=1,
            conv_dims=[channels] * num_convs,
            norm=head_norm(norm),
            prior_prob=prior_prob,
        )
        self.bbox_pred = nn.Conv2d(channels, 4 * (reg_max + 1), 3, padding=1)
        nn.init.normal_(self.bbox_pred.weight, std=0.01)
        nn.init.zeros_(self.bbox_pred.bias)
        self.scales = nn.Parameter(torch.ones(len(input_shape)))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predicts from the levels' maps.

        Args:
            features: (N, C, H, W) for each level.

        Returns:
            For each level logits (N, K, H, W), and logits of the distributions
            (N, 4 (reg_max + 1), H, W): the bins of the left side, then of the top, right and
            bottom one.
        """
        logits, distributions = super().forward(features)
        return logits, [s * x for s, x in zip(self.scales, distributions, strict=True)]

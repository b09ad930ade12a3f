"""GFL's head: scores, and a distribution for each side of the box."""

from __future__ import annotations

from typing import Any

from torch import nn

from distill.modeling.dense.head import ScaledHead

__all__ = ["GFLHead"]


class GFLHead(ScaledHead):
    """RetinaNet's head with distributions for boxes, scaled for each level (arXiv 2006.04388).

    For each level it predicts logits (N, K, H, W), and logits of the distributions
    (N, 4 (reg_max + 1), H, W): the bins of the left side, then of the top, right and bottom one.
    """

    def __init__(self, *, reg_max: int, **arguments: Any) -> None:
        """Builds the convolutions.

        Args:
            reg_max: largest distance, in strides, of a distribution of reg_max + 1 bins.
            arguments: see :func:`distill.modeling.dense.config.tower_arguments`.
        """
        super().__init__(num_anchors=1, **arguments)
        channels = self.bbox_pred.in_channels
        self.bbox_pred = nn.Conv2d(channels, 4 * (reg_max + 1), 3, padding=1)
        nn.init.normal_(self.bbox_pred.weight, std=0.01)
        nn.init.zeros_(self.bbox_pred.bias)

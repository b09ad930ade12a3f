"""SSD's head: one 3x3 convolution a level for the classes, one for the boxes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["SSDHead"]


class SSDHead(nn.Module):
    """Predicts classes and boxes of every anchor of every level (arXiv 1512.02325)."""

    def __init__(
        self, in_channels: Sequence[int], num_anchors: Sequence[int], num_classes: int
    ) -> None:
        """Builds the convolutions.

        Args:
            in_channels: channels of each level.
            num_anchors: anchors per cell of each level.
            num_classes: K, without the background.
        """
        super().__init__()
        levels = list(zip(in_channels, num_anchors, strict=True))
        self.cls_score = nn.ModuleList(
            nn.Conv2d(channels, anchors * (num_classes + 1), 3, padding=1)
            for channels, anchors in levels
        )
        self.bbox_pred = nn.ModuleList(
            nn.Conv2d(channels, anchors * 4, 3, padding=1) for channels, anchors in levels
        )
        for conv in (*self.cls_score, *self.bbox_pred):
            # As in Detectron2's dense heads; SSD's own Xavier begins with confident mistakes where
            # the backbone isn't pre-trained.
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predicts from the levels' maps.

        Args:
            features: (N, C, H, W) for each level.

        Returns:
            For each level, with A anchors per cell, logits (N, A (K + 1), H, W), the background
            last, and box deltas (N, A 4, H, W).
        """
        logits = [conv(x) for conv, x in zip(self.cls_score, features, strict=True)]
        deltas = [conv(x) for conv, x in zip(self.bbox_pred, features, strict=True)]
        return logits, deltas

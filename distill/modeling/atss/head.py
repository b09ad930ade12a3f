"""ATSS's head: FCOS's, with a learned scale for the boxes of each level."""

from __future__ import annotations

from detectron2.modeling.meta_arch.fcos import FCOSHead

from distill.modeling.dense.head import ScaledHead

__all__ = ["ATSSHead"]


class ATSSHead(ScaledHead, FCOSHead):
    """Logits, box deltas and centerness of one anchor a location (arXiv 1912.02424)."""

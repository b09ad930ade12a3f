"""The annotations of a batch as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.ops.padding import pad_rows

__all__ = ["GroundTruth"]


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of a batch, padded to G boxes an image, on the model's device.

    Attributes:
        boxes: (N, G, 4) corners in pixels of the network's input; zeros where padded.
        classes: (N, G) labels; zeros where padded.
        valid: (N, G) bool, False where padded.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor

    @classmethod
    def from_inputs(cls, batched_inputs: Sequence[dict], device: torch.device) -> GroundTruth:
        """Collates `instances` where they lie (usually in host memory) and copies them once."""
        instances = [x["instances"] for x in batched_inputs]
        boxes, valid = pad_rows([x.gt_boxes.tensor for x in instances])
        classes, _ = pad_rows([x.gt_classes for x in instances])
        return cls(*(x.to(device, non_blocking=True) for x in (boxes, classes, valid)))

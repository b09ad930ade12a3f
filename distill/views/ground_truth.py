"""The annotations of a batch as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
        boxes = [x["instances"].gt_boxes.tensor for x in batched_inputs]
        classes = [x["instances"].gt_classes for x in batched_inputs]
        counts = torch.tensor([len(x) for x in boxes], device=boxes[0].device)
        pad = nn.utils.rnn.pad_sequence
        padded = pad(boxes, batch_first=True)
        places = torch.arange(padded.shape[1], device=padded.device)
        return cls(
            padded.to(device, non_blocking=True),
            pad(classes, batch_first=True).to(device, non_blocking=True),
            (places < counts[:, None]).to(device, non_blocking=True),
        )

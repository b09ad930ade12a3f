"""The objects of a batch as one tensor, and what anchors that stand for them should predict.

Letters: N images, R anchors, G objects an image, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from distill.ops.padding import pad_rows

__all__ = [
    "CERTAIN_BACKGROUND",
    "class_targets",
    "leave_out_ignored",
    "pad_ground_truth",
]

# A logit whose sigmoid, and so the focal loss of background, is 0; half precision holds it.
CERTAIN_BACKGROUND = -1e4


def pad_ground_truth(instances: Sequence[Instances]) -> tuple[Tensor, Tensor, Tensor]:
    """Pads the objects of every image to the same number G, which is at least 1.

    Args:
        instances: one Instances with `gt_boxes` and `gt_classes` for each of N images.

    Returns:
        (N, G, 4) corners, zeros where padded, (N, G) classes, and (N, G) bool, False where padded.
    """
    # One more place, so that a batch without objects needs no case of its own.
    boxes, valid = pad_rows([x.gt_boxes.tensor for x in instances], extra=1)
    classes, _ = pad_rows([x.gt_classes for x in instances], extra=1)
    return boxes, classes, valid


def leave_out_ignored(logits: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Makes ignored anchors background that costs nothing and gives no gradient.

    Args:
        logits: (N, R, K) of losses that are 0 for certain background.
        labels: (N, R) int64, K for the background, -1 where ignored.
        num_classes: K.

    Returns:
        Both with the ignored anchors changed.
    """
    ignored = labels < 0
    logits = logits.masked_fill(ignored[..., None], CERTAIN_BACKGROUND)
    return logits, labels.masked_fill(ignored, num_classes)


def class_targets(labels: Tensor, values: Tensor, num_classes: int) -> Tensor:
    """What the classes' own probabilities should be.

    Args:
        labels: (N, R) int64, K for the background.
        values: (N, R) what an object's class should have.
        num_classes: K.

    Returns:
        (N, R, K) float32, 0 but at the labels.
    """
    zeros = values.new_zeros((*labels.shape, num_classes + 1), dtype=torch.float32)
    return zeros.scatter(-1, labels[..., None], values.float()[..., None])[..., :-1]

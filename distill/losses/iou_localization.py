"""Localization distillation of dense detectors by the overlap of decoded boxes.

Source: bridging cross-task protocol inconsistency (BCKD), arXiv 2308.14286. That the weight is
detached and that the overlap is the generalized IoU are from the authors' code; the text says IoU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.losses.binary_consistency import largest_discrepancy
from distill.ops.boxes import aligned_overlap

__all__ = ["iou_localization"]


def iou_localization(
    student_boxes: Tensor,
    teacher_boxes: Tensor,
    student_logits: Tensor | None,
    teacher_logits: Tensor | None,
    valid: Tensor,
    num_positives: Tensor | float,
    *,
    iou_type: str = "giou",
    weight_exponent: float = 1.0,
    discrepancy: Tensor | None = None,
) -> Tensor:
    """Sum of d^e * (1 - overlap of the two boxes) over max(1, num_positives).

    The weight d of a location is the largest |q - p| of its classes, with p and q the sigmoids of
    the student's and the teacher's logits; it is a constant.

    Args:
        student_boxes: (R, 4) corners x0, y0, x1, y1 in pixels.
        teacher_boxes: (R, 4), of the same anchors or points, taken as constants.
        student_logits: (R, K) one logit per location and class; None where d is given.
        teacher_logits: (R, K), likewise.
        valid: (R,) bool or 0/1; False keeps a location out, whatever its boxes and logits.
        num_positives: number of positive locations, usually a mean over the devices.
        iou_type: a kind of `aligned_overlap`: "giou", "iou" or "diou".
        weight_exponent: e; 0 weighs all valid locations alike.
        discrepancy: (R,) the weight d, where it is known already; from the logits if None.

    Returns:
        float32 scalar; 0 where the boxes, of some area, or the logits are equal, and without valid
        locations.

    Raises:
        ValueError: if the type of overlap is unknown.
    """
    if discrepancy is None:
        discrepancy = largest_discrepancy(student_logits, teacher_logits)
    valid = valid.bool()
    weight = discrepancy.detach().float().pow(weight_exponent).masked_fill(~valid, 0)
    # Boxes are replaced before the overlap, as one that overflowed would give NaN times zero.
    dropped = ~valid[:, None]
    student = student_boxes.float().masked_fill(dropped, 0)
    teacher = teacher_boxes.detach().float().masked_fill(dropped, 0)
    total = (weight * (1 - aligned_overlap(student, teacher, iou_type))).sum()
    return total / torch.as_tensor(num_positives, dtype=torch.float32).clamp(min=1)

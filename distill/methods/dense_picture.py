"""The picture of the methods for dense heads: where the detectors disagree, and what they find."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from distill.losses import largest_discrepancy
from distill.methods.pictures import draw_heat
from distill.views.dense_pairs import pair_levels
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["draw_dense_discrepancy"]


@torch.no_grad()
def draw_dense_discrepancy(
    student: StudentSignals, teacher: TeacherSignals, head: str = "dense"
) -> np.ndarray:
    """Draws the first image of a batch.

    The heat of a pixel is the largest difference of the two detectors' probabilities over the
    classes, the anchors and the levels at its place; anchors that are left out have none.

    Args:
        student: signals with "dense" or "rpn".
        teacher: likewise.
        head: "dense" or "rpn".

    Returns:
        (s H, 3 s W, 3) uint8 RGB: heat, the student's detections, the teacher's.
    """
    height, width = student.batched_inputs[0]["image"].shape[-2:]
    heat = torch.zeros(height, width, device=student.model.device)
    for pair in pair_levels(student, teacher, head=head):
        stride, (rows, columns) = pair.student.stride, pair.size
        apart = largest_discrepancy(pair.student.logits[0], pair.teacher.logits[0]) * pair.valid[0]
        cells = apart.view(rows, columns, -1).amax(-1)
        pixels = F.interpolate(cells[None, None], scale_factor=stride, mode="nearest")[0, 0]
        # A cell is drawn around the center of its anchors.
        shift = round((0.5 - pair.student.head.anchor_generator.offset) * stride)
        pixels = pixels[max(0, shift) :, max(0, shift) :]
        part = heat[: pixels.shape[0], : pixels.shape[1]]
        torch.maximum(part, pixels[:height, :width], out=part)
    return draw_heat(student.batched_inputs[0], heat, student.detect(0), teacher.detect(0))

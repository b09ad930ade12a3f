"""Imitation of box deltas, on the proposals that a gate admits.

Source: task-adaptive regularization, arXiv 2006.13108, equation 5, from a second-hand account.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gated_box_regression"]


def gated_box_regression(
    student_deltas: Tensor, teacher_deltas: Tensor, gate: Tensor, num_foreground: Tensor
) -> Tensor:
    """Sum of gate * |student - teacher|_1 over max(1, num_foreground).

    Args:
        student_deltas: (P, 4) deltas of each proposal's true class.
        teacher_deltas: (P, 4) the teacher's, in the student's parametrization, as constants.
        gate: (P,) weight of each proposal; 0 keeps it out, whatever its deltas.
        num_foreground: scalar number of foreground proposals.

    Returns:
        float32 scalar; 0 where the deltas are equal or the gate admits nothing.
    """
    student = student_deltas.float()
    gate = gate.detach().float()
    # Selected, not multiplied by zero, as deltas that overflowed would give NaN.
    target = torch.where(gate[:, None] > 0, teacher_deltas.detach().float(), student.detach())
    return ((student - target).abs().sum(1) * gate).sum() / num_foreground.clamp(min=1)

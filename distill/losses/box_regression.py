"""Imitation of box deltas, on the proposals that a gate admits.

Source: task-adaptive regularisation, arXiv 2006.13108, equation 5, from a second-hand account.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["gated_box_regression"]


def gated_box_regression(
    student_deltas: Tensor, teacher_deltas: Tensor, gate: Tensor, num_foreground: Tensor
) -> Tensor:
    """Sum of gate * |student - teacher|_1 over max(1, num_foreground).

    Args:
        student_deltas: (P, 4) deltas of each proposal's true class.
        teacher_deltas: (P, 4) the teacher's, in the student's parametrisation, as constants.
        gate: (P,) weight of each proposal; 0 keeps it out, whatever its deltas.
        num_foreground: scalar number of foreground proposals.

    Returns:
        float32 scalar; 0 where the deltas are equal or the gate admits nothing.
    """
    distance = (student_deltas.float() - teacher_deltas.detach().float()).abs().sum(1)
    return (distance * gate.detach().float()).sum() / num_foreground.clamp(min=1)

"""Imitation of the softmax scores of foreground proposals.

Source: task-adaptive regularization, arXiv 2006.13108, from a second-hand account; the
Kullback-Leibler form and the optional gate are choices of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.losses.softmax_logits import log_one_minus_softmax

__all__ = ["foreground_classification"]


def foreground_classification(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    gate: Tensor | None = None,
    num_foreground: Tensor | None = None,
    form: str = "bce",
) -> Tensor:
    """Cross-entropy of the student's softmax scores against the teacher's, on given proposals.

    With q = softmax(teacher) and p = softmax(student), "bce" is the mean over proposals and
    classes of -q log(p) - (1 - q) log(1 - p), and "kl" that of q log(q / p). Computed from
    logits, so that it is finite and exact for any finite logits.

    Args:
        student_scores: (P, K + 1) logits, the background last.
        teacher_scores: (P, K + 1) logits, taken as constants.
        gate: (P,) weight of each proposal, 1 for all if None.
        num_foreground: scalar by which the sum over proposals is divided (at least 1); P if None.
        form: "bce" or "kl".

    Returns:
        float32 scalar; 0 without proposals.

    Raises:
        ValueError: if the form is neither of the two.
    """
    student = student_scores.float()
    teacher = teacher_scores.detach().float()
    log_p, log_q = student.log_softmax(1), teacher.log_softmax(1)
    q = log_q.exp()
    if form == "bce":
        terms = -q * log_p - (1 - q) * log_one_minus_softmax(student, log_p)
    elif form == "kl":
        terms = q * (log_q - log_p)
    else:
        raise ValueError(f'form is "{form}"; it must be "bce" or "kl"')
    rows = terms.sum(1)
    if gate is not None:
        rows = rows * gate.detach().to(rows.dtype)
    if num_foreground is None:
        num_foreground = torch.tensor(float(len(rows)), device=rows.device)
    return rows.sum() / (num_foreground.clamp(min=1) * student.shape[1])

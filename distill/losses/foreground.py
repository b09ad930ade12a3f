"""Imitation of the softmax scores of foreground proposals.

Source: task-adaptive regularisation, arXiv 2006.13108, from a second-hand account; the
Kullback-Leibler form and the optional gate are choices of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
        terms = -q * log_p - (1 - q) * _log_one_minus_softmax(student, log_p)
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


def _log_one_minus_softmax(logits: Tensor, log_p: Tensor) -> Tensor:
    """log(1 - softmax(logits)), (P, K), without cancellation.

    Only the largest class of a row can come close to 1; its complement is the sum over the others.
    """
    if not len(logits):
        return log_p
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, float("-inf")).logsumexp(1, keepdim=True)
    complement_of_top = others - logits.logsumexp(1, keepdim=True)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter(1, top, True)
    # The argument of log1p is masked before the logarithm, or its infinite gradient, though it
    # is multiplied by zero, would be NaN.
    small = log_p.exp().masked_fill(is_top, 0.0)
    return torch.where(is_top, complement_of_top, torch.log1p(-small))

"""Binary classification distillation of dense detectors, every class a task of its own.

Source: bridging cross-task protocol inconsistency (BCKD), arXiv 2308.14286; that the weight is not
detached is from the authors' code.

Letters: R locations, K classes; s the student's logits, p their sigmoids, q the sigmoids of the
teacher's; BCE = softplus(s) - q s their cross-entropy, |p - q| the gap, e its exponent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = [
    "binary_consistency",
    "binary_consistency_sums",
    "cross_entropy",
    "largest_discrepancy",
    "row_slices",
]

# Logits that are computed on at once: bounds what is held besides the gradient.
_MAX_ELEMENTS = 2**20
# Keeps powers of a discrepancy finite, where they are multiplied by its sign, 0.
_MIN_DISCREPANCY = 1e-30


def binary_consistency(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    num_positives: Tensor | float,
    *,
    weight_exponent: float = 1.0,
) -> Tensor:
    """Sum of |q - p|^e * BCE(q; s) over max(1, num_positives), with p and q the sigmoids.

    The weight |q - p| takes part in the gradient.

    Args:
        student_logits: (R, K) one logit s per location and class.
        teacher_logits: (R, K), taken as constants.
        valid: (R,) bool or 0/1; False keeps a location out, whatever its logits.
        num_positives: number of positive locations, usually a mean over the devices.
        weight_exponent: e; 0 is the plain binary cross-entropy.

    Returns:
        float32 scalar; 0 where the logits are equal, and without valid locations.
    """
    total, _ = binary_consistency_sums(
        student_logits, teacher_logits, valid, weight_exponent=weight_exponent
    )
    return total / torch.as_tensor(num_positives, dtype=torch.float32).clamp(min=1)


def binary_consistency_sums(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    *,
    weight_exponent: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The sum of `binary_consistency`, not divided, and the discrepancies found on the way.

    Args:
        student_logits: (R, K) one logit per location and class.
        teacher_logits: (R, K), taken as constants.
        valid: (R,) bool or 0/1; False keeps a location out of the sum, whatever its logits.
        weight_exponent: e; 0 is the plain binary cross-entropy.

    Returns:
        The float32 scalar sum, and what `largest_discrepancy` returns.
    """
    return _BinaryConsistency.apply(student_logits, teacher_logits, valid, weight_exponent)


def largest_discrepancy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The largest |q - p| of each location's classes, without gradient.

    Args:
        student_logits: (R, K) one logit per location and class.
        teacher_logits: (R, K), likewise.

    Returns:
        (R,) float32 in [0, 1], of valid and other locations.
    """
    discrepancy = torch.empty(len(student_logits), device=student_logits.device)
    with torch.no_grad():
        for rows in row_slices(student_logits):
            p = student_logits[rows].float().sigmoid()
            q = teacher_logits[rows].float().sigmoid()
            discrepancy[rows] = p.sub_(q).abs_().amax(1)
    return discrepancy


def row_slices(logits: Tensor) -> list[slice]:
    """Slices of (R, K) logits that together cover all rows, each of a bounded number of logits."""
    step = max(1, _MAX_ELEMENTS // max(1, logits.shape[1]))
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Elementwise softplus(s) - q * s, for logits s and target probabilities q; never negative."""
    return F.softplus(logits).addcmul_(target, logits, value=-1)


class _BinaryConsistency(Function):
    """Value and gradient in one pass.

    Autograd would keep half a dozen tensors of (R, K); this keeps the gradient alone, which is
    worked out beside the value, part of the rows by part, and only scaled in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, valid: Tensor, exponent: float
    ) -> tuple[Tensor, Tensor]:
        values = torch.empty(len(student), device=student.device)
        discrepancy = torch.empty_like(values)
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = torch.empty(student.shape, device=student.device)
        dropped = valid.logical_not()
        for rows in row_slices(student):
            s, q = student[rows].float(), teacher[rows].float().sigmoid()
            p, cross = s.sigmoid(), cross_entropy(s, q)
            slope = p - q
            gap = q.copy_(slope).abs_()
            discrepancy[rows] = gap.amax(1)
            weighted = gap * cross if exponent == 1 else gap.pow(exponent).mul_(cross)
            values[rows] = weighted.sum(1)
            if gradient is not None:
                # Zeros where a location is dropped, whatever the logits: NaN times 0 is NaN.
                part = _gradient(p, slope, gap, cross, exponent)
                gradient[rows] = part.masked_fill_(dropped[rows, None], 0)
        ctx.dtype = student.dtype
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(discrepancy)
        return values.masked_fill_(dropped, 0).sum(), discrepancy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer).to(ctx.dtype), None, None, None


def _gradient(p: Tensor, slope: Tensor, gap: Tensor, cross: Tensor, exponent: float) -> Tensor:
    """Derivative of gap^e * BCE by the student's logit s; overwrites slope and gap.

    Args:
        p: (R, K) the student's probabilities.
        slope: (R, K) p - q.
        gap: (R, K) |p - q|.
        cross: (R, K) BCE.
        exponent: e.
    """
    # The cross-entropy: softplus'(s) = p, so that BCE' = p - q = slope = sign gap.
    # The gap: p' = p (1 - p), so that gap' = sign p (1 - p), with sign the slope's.
    # The product: (gap^e BCE)' = e gap^(e - 1) gap' BCE + gap^e BCE'
    #     = sign gap^(e - 1) (e p (1 - p) BCE + gap^2).
    # At gap = 0 is a kink (e = 1), or the derivative is infinite (e < 1): the sign makes it 0.
    variance = torch.addcmul(p, p, p, value=-1)
    inner = slope.square().addcmul_(variance, cross, value=exponent)
    if exponent != 1:
        inner.mul_(gap.clamp_(min=_MIN_DISCREPANCY).pow_(exponent - 1))
    return inner.mul_(slope.sign_())

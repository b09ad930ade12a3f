"""Adaptive distillation of a dense detector's class logits.

Source: semi-supervised adaptive distillation (ADL, SAD), arXiv 1901.00366. The "code" form, its
constants, and that the weight is not detached and that ignored locations stay in the normalizer
are from the authors' code; the "paper" form is from a second-hand account.

Letters: R locations, K classes; s and t the student's and the teacher's logits, p and q their
sigmoids; BCE = softplus(s) - q s the cross-entropy of both, H = BCE at s = t the teacher's entropy,
KL = BCE - H their divergence; u = KL + beta H the exponent, w = (1 - exp(-u))^gamma the weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from distill.losses.binary_consistency import cross_entropy, row_slices

__all__ = ["adaptive_distillation", "adaptive_distillation_sums"]

# What the weighted term of each form is multiplied by.
_SCALES = {"code": 0.5, "paper": 1.0}
# Keeps the quotient finite where u, and with it the weight, another factor, is 0.
_MIN_BASE = 1e-30
# Keeps the logarithm finite, for an exponent of 0.
_MIN_PROBABILITY = torch.finfo(torch.float32).tiny


def adaptive_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    *,
    gamma: float = 2.0,
    beta: float = 1.0,
    theta: float = 1.8,
    form: str = "code",
) -> Tensor:
    """Distillation that favors logits on which the models differ or the teacher is unsure.

    With q = sigmoid(t) and p = sigmoid(s) of the teacher's and the student's logits, the weight
    w = (1 - exp(-(KL(q, p) + beta * H(q))))^gamma, which takes part in the gradient. "code" is the
    sum of w * BCE(q; s) / 2 and "paper" that of w * KL(q, p), either over max(1, sum of q^theta).

    Args:
        student_logits: (R, K) one logit s per location and class.
        teacher_logits: (R, K) logits t, taken as constants.
        valid: (R,) bool or 0/1; False keeps a location out of the numerator, whatever the
            student's logits, but not out of the normalizer.
        gamma: exponent of the weight.
        beta: factor of the teacher's entropy H(q) in the weight.
        theta: exponent of the teacher's probability in the normalizer.
        form: "code" or "paper".

    Returns:
        float32 scalar; "paper" is 0 where the logits are equal, both are 0 without locations.

    Raises:
        ValueError: if the form is neither of the two.
    """
    numerator, normalizer = adaptive_distillation_sums(
        student_logits, teacher_logits, valid, gamma=gamma, beta=beta, theta=theta, form=form
    )
    return numerator / normalizer.clamp(min=1)


def adaptive_distillation_sums(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    *,
    gamma: float = 2.0,
    beta: float = 1.0,
    theta: float = 1.8,
    form: str = "code",
) -> tuple[Tensor, Tensor]:
    """Numerator and normalizer of `adaptive_distillation`, for summing over a detector's levels.

    Args:
        student_logits: (R, K) one logit per location and class.
        teacher_logits: (R, K), taken as constants.
        valid: (R,) bool or 0/1; False keeps a location out of the numerator alone.
        gamma: exponent of the weight.
        beta: factor of the teacher's entropy in the weight.
        theta: exponent of the teacher's probability in the normalizer.
        form: "code" or "paper".

    Returns:
        Two float32 scalars; the normalizer is a constant, and not yet raised to 1.

    Raises:
        ValueError: if the form is neither of the two.
    """
    if form not in _SCALES:
        raise ValueError(f'form is "{form}"; it must be "code" or "paper"')
    numerator, normalizer = _AdaptiveDistillation.apply(
        student_logits, teacher_logits, valid, gamma, beta, theta, form
    )
    return numerator * _SCALES[form], normalizer


class _AdaptiveDistillation(Function):
    """Value and gradient in one pass.

    Autograd would keep a dozen tensors of (R, K); this keeps the gradient alone, which is worked
    out beside the value, part of the rows by part, and only scaled in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        valid: Tensor,
        gamma: float,
        beta: float,
        theta: float,
        form: str,
    ) -> tuple[Tensor, Tensor]:
        values = torch.empty(len(student), device=student.device)
        powers = torch.empty_like(values)
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = torch.empty(student.shape, device=student.device)
        dropped = valid.logical_not()
        for rows in row_slices(student):
            s, t = student[rows].float(), teacher[rows].float()
            q = t.sigmoid()
            term, exponent = _term_and_exponent(s, t, q, beta, form)
            # 1 - exp(-u), exact for small u too.
            base = torch.neg(exponent).expm1_().neg_()
            weight = base.pow(gamma)
            values[rows] = (weight * term).sum(1)
            if gradient is not None:
                slope = s.sigmoid().sub_(q)
                # Zeros where a location is dropped, whatever the logits: NaN times 0 is NaN.
                part = _gradient(slope, term, base, weight, gamma)
                gradient[rows] = part.masked_fill_(dropped[rows, None], 0)
            # q^theta; a logarithm and an exponential cost less than the power.
            powers[rows] = q.clamp_(min=_MIN_PROBABILITY).log_().mul_(theta).exp_().sum(1)
        normalizer = powers.sum()
        ctx.dtype = student.dtype
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(normalizer)
        return values.masked_fill_(dropped, 0).sum(), normalizer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer).to(ctx.dtype), None, None, None, None, None, None


def _term_and_exponent(
    s: Tensor, t: Tensor, q: Tensor, beta: float, form: str
) -> tuple[Tensor, Tensor]:
    """What is weighted, BCE or KL, and the exponent u of its weight."""
    cross = cross_entropy(s, q)
    if form == "code" and beta == 1:
        # KL + H is BCE itself, so that the entropy need not be computed.
        return cross, cross
    entropy = cross_entropy(t, q)
    # Not negative but by rounding, which the power of a negative base would turn into NaN.
    divergence = (cross - entropy).clamp_(min=0)
    return (cross if form == "code" else divergence), entropy.mul_(beta).add_(divergence)


def _gradient(slope: Tensor, term: Tensor, base: Tensor, weight: Tensor, gamma: float) -> Tensor:
    """Derivative of w * term by the student's logit s; overwrites base.

    Args:
        slope: (R, K) p - q.
        term: (R, K) BCE or KL.
        base: (R, K) 1 - exp(-u).
        weight: (R, K) w = base^gamma.
        gamma: its exponent.
    """
    # The term: softplus'(s) = p, so that BCE' = p - q = slope, and KL' too, as H is constant in s.
    # The exponent: u' = KL' = slope as well, beta H being constant.
    # The weight: base' = exp(-u) u' = (1 - base) slope, so that
    #     w' = gamma base^(gamma - 1) base' = gamma (w / base) (1 - base) slope.
    # The product: (w term)' = w term' + w' term = slope w (1 + gamma term (1 - base) / base).
    factor = torch.rsub(base, 1).mul_(term).mul_(gamma).div_(base.clamp_(min=_MIN_BASE))
    return factor.add_(1).mul_(weight).mul_(slope)

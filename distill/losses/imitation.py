"""Imitation of feature maps, by squared error.

Source: the normalizer 2 * C * sum(mask) is a second-hand account of task-adaptive regularization,
arXiv 2006.13108; the floor of 1 is a choice of ours, so that an empty mask gives zero.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["masked_imitation"]


def masked_imitation(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Sum of mask * (student - teacher)^2 over 2 * max(1, C * sum(mask)).

    Args:
        student: (N, C, H, W) feature map.
        teacher: (N, C, H, W) target, taken as a constant.
        mask: (N, 1, H, W) weights of the cells, not negative.

    Returns:
        float32 scalar; 0 where the maps are equal or the mask is empty.
    """
    mask = mask.detach().float()
    squares = (student.float() - teacher.detach().float()).square()
    # The channels are summed first: the mask is then multiplied into one channel, not into C.
    total = (squares.sum(1, keepdim=True) * mask).sum()
    return total / (2 * (student.shape[1] * mask.sum()).clamp(min=1))

"""The boxes of several images, of which each has its own number, as one tensor.

Letters: N images, B rows of the fullest image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

__all__ = ["pad_rows"]


def pad_rows(rows: Sequence[Tensor], *, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Puts the rows of all images into one table.

    The numbers of rows are known on the host, so nothing waits for the device.

    Args:
        rows: (B_n, ...) of each image, all on one device.
        extra: empty rows beyond the fullest image's; with 1 a batch without any row needs no case
            of its own.

    Returns:
        (N, B + extra, ...) zeros where an image has no such row, and (N, B + extra) bool, whether
        it has.
    """
    padded = pad_sequence(list(rows), batch_first=True)
    if extra:
        padded = F.pad(padded, (0, 0) * (padded.dim() - 2) + (0, extra))
    counts = torch.tensor([len(x) for x in rows])
    valid = torch.arange(padded.shape[1]) < counts[:, None]
    return padded, valid.to(padded.device, non_blocking=True)

"""Normalization layers that Detectron2 lacks, built by name beside its own."""

from __future__ import annotations

import math
from collections.abc import Callable

from detectron2.layers import get_norm
from torch import nn

__all__ = ["FrozenStatsBatchNorm2d", "build_norm", "head_norm"]


class FrozenStatsBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization by its running statistics, which never move, with a trained affine map.

    This is how ReActNet's and IDa-Det's (arXiv 2210.03477) detectors are fine-tuned; Detectron2's
    FrozenBatchNorm2d freezes the affine map too. The keys of a checkpoint are BatchNorm2d's.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        """Builds the layer.

        Args:
            num_features: channels.
            eps: added to the variance.
        """
        super().__init__(num_features, eps=eps)
        self.train()

    def train(self, mode: bool = True) -> FrozenStatsBatchNorm2d:
        """Stays in eval mode, whatever is asked for; so PreciseBN leaves it alone too."""
        return super().train(False)


def build_norm(name: str, channels: int) -> nn.Module | None:
    """Builds a normalization layer by name.

    Args:
        name: ``FrozenStatsBN``, or a name of ``detectron2.layers.get_norm``: ``BN`` (live),
            ``FrozenBN``, ``SyncBN``, ``GN``, ...; "" for none.
        channels: of the maps to normalize.

    Returns:
        The layer, or None for "".

    Raises:
        ValueError: the name is unknown.
    """
    if name == "FrozenStatsBN":
        return FrozenStatsBatchNorm2d(channels)
    try:
        return get_norm(name, channels)
    except KeyError as error:
        raise ValueError(
            f"The normalization {name!r} (MODEL.BINARY.NORM or MODEL.FPN.NORM) is unknown: use "
            "BN, FrozenStatsBN, FrozenBN, SyncBN, GN or ''."
        ) from error


def head_norm(name: str) -> str | Callable[[int], nn.Module]:
    """What Detectron2's dense heads take as their norm.

    Detectron2 0.6 tries a norm on a single channel first, which its own "GN" of 32 groups does not
    stand.

    Args:
        name: of ``detectron2.layers.get_norm``; "GN" has 32 groups, or as many as the channels
            allow.
    """
    return _group_norm if name == "GN" else name


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels)

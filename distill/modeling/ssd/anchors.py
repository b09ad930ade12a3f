"""SSD's anchors (arXiv 1512.02325)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from numbers import Real

import torch
from detectron2.config import configurable
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from torch import Tensor

__all__ = ["SSDAnchorGenerator"]


@ANCHOR_GENERATOR_REGISTRY.register()
class SSDAnchorGenerator(DefaultAnchorGenerator):
    """Two squares and a box for each aspect ratio in every cell, of one size s_k a level.

    In this order: the square of s_k, the square of sqrt(s_k s_k+1), and boxes of the area s_k^2
    with the given ratios. It reads MODEL.ANCHOR_GENERATOR, where SIZES is a flat list of
    s_1, s_2, ..., one more than there are levels.
    """

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[float],
        aspect_ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        """Computes the anchors of a cell.

        Args:
            sizes: s_1, s_2, ... in pixels, one more than there are levels.
            aspect_ratios: height over width, for each level; a single list holds for all.
            strides: pixels per cell of each level.
            offset: of the centers from a cell's corner, in cells.

        Raises:
            ValueError: if the numbers of sizes, ratios and levels do not fit together.
        """
        levels = len(strides)
        if len(sizes) != levels + 1 or not all(isinstance(size, Real) for size in sizes):
            raise ValueError(
                f"MODEL.ANCHOR_GENERATOR.SIZES is {list(sizes)}, but SSD with {levels} levels "
                f"needs a flat list of {levels + 1} sizes."
            )
        if len(aspect_ratios) not in (1, levels):
            raise ValueError(
                f"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS has {len(aspect_ratios)} lists, but SSD has "
                f"{levels} levels: give one list for each, or one for all."
            )
        super().__init__(
            sizes=[list(pair) for pair in itertools.pairwise(sizes)],
            aspect_ratios=aspect_ratios,
            strides=strides,
            offset=offset,
        )

    def generate_cell_anchors(
        self, sizes: Sequence[float], aspect_ratios: Sequence[float]
    ) -> Tensor:
        """Computes the anchors around (0, 0).

        Args:
            sizes: (s_k, s_k+1) in pixels.
            aspect_ratios: heights over widths of the boxes that are added to the squares.

        Returns:
            (2 + number of ratios, 4) corners in pixels.
        """
        size, following = sizes
        sides = [(size, size), (math.sqrt(size * following),) * 2]
        sides += [(size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in aspect_ratios]
        half = torch.tensor(sides) / 2
        return torch.cat([-half, half], dim=1)

"""What a dense head predicts, read level by level in one form for every family of detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from distill.views.contract import DenseHead
from distill.views.heads import dense_head

__all__ = [
    "DenseLevel",
    "DensePredictions",
    "dense_predictions",
    "stack_labels",
]


@dataclass(frozen=True)
class DenseLevel:
    """The predictions of one level: R = H W A anchors in each of N images.

    Each is rearranged when it is first asked for.

    Attributes:
        predictions: those of all levels.
        index: of the level, from the finest to the coarsest.
        size: height and width in cells, at most the level's own.
    """

    predictions: DensePredictions
    index: int
    size: tuple[int, int]

    @property
    def head(self) -> DenseHead:
        """The head, which gives the outputs their meaning."""
        return self.predictions.head

    @property
    def stride(self) -> int:
        """Pixels per cell."""
        return int(self.head.anchor_generator.strides[self.index])

    @cached_property
    def logits(self) -> Tensor:
        """(N, R, K) logits of each class' own probability."""
        logits = self.head.class_logits(self.output(0))
        class_map = self.predictions.class_map
        return logits if class_map is None else logits[..., class_map]

    @cached_property
    def deltas(self) -> Tensor:
        """(N, R, D) what the head predicts of the boxes."""
        return self.output(1)

    @cached_property
    def anchors(self) -> Tensor:
        """(R, 4) corners in pixels."""
        height, width = self.size
        return self.predictions.anchors[self.index][:height, :width].reshape(-1, 4)

    def boxes(self) -> Tensor:
        """The predicted boxes, (N, R, 4) float32 corners in pixels."""
        return self.head.decode_boxes(self.deltas.float(), self.anchors, self.stride)

    def output(self, number: int) -> Tensor:
        """(N, R, D) what the head returned in that place, also of a crop, or without a cell."""
        height, width = self.size
        output = self.predictions.outputs[number][self.index][..., :height, :width]
        per_cell = self.predictions.num_anchors[self.index]
        number, channels = output.shape[:2]
        cells = output.unflatten(1, (per_cell, channels // per_cell)).permute(0, 3, 4, 1, 2)
        return cells.reshape(number, height * width * per_cell, channels // per_cell)


class DensePredictions:
    """What a dense head says about a batch; nothing is rearranged before a level is asked for."""

    def __init__(
        self,
        head: DenseHead,
        features: Sequence[Tensor],
        outputs: Sequence[Sequence[Tensor]],
        class_map: Tensor | None = None,
    ) -> None:
        """Notes a head's outputs.

        Args:
            head: see :func:`~distill.views.heads.dense_head`.
            features: (N, C, H, W) maps that the head read.
            outputs: what it returned: logits and deltas, each a list of (N, A * D, H, W) by level,
                and possibly more.
            class_map: (K,) the head's column of every class that is wanted; None for all.
        """
        self.head = head
        self.outputs = outputs
        self.class_map = class_map
        self._features = features

    @cached_property
    def anchors(self) -> list[Tensor]:
        """(H, W, A, 4) corners in pixels for every level."""
        anchors = self.head.anchor_generator(list(self._features))
        return [
            boxes.tensor.view(*size, per_cell, 4)
            for boxes, size, per_cell in zip(anchors, self.sizes, self.num_anchors, strict=True)
        ]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every level, in cells."""
        return [tuple(x.shape[-2:]) for x in self.outputs[0]]

    @property
    def num_anchors(self) -> list[int]:
        """A, anchors per cell, of every level."""
        return list(self.head.anchor_generator.num_anchors)

    def level(self, index: int, size: tuple[int, int] | None = None) -> DenseLevel:
        """One level's predictions.

        Args:
            index: of the level, from the finest to the coarsest.
            size: height and width in cells to which it is cropped; None for all of it.
        """
        return DenseLevel(self, index, size or self.sizes[index])

    def __iter__(self) -> Iterator[DenseLevel]:
        """All levels, one at a time."""
        return (self.level(index) for index in range(len(self.outputs[0])))


def dense_predictions(
    model: nn.Module,
    head: str,
    features: Mapping[str, Tensor],
    outputs: Sequence[Sequence[Tensor]],
    class_map: Tensor | None = None,
) -> DensePredictions:
    """Reads the outputs of a dense head or of an RPN's.

    Args:
        model: the detector.
        head: "dense" or "rpn".
        features: its backbone's maps by level name.
        outputs: what the head returned.
        class_map: (K,) the head's column of every class that is wanted; None for all.
    """
    view = dense_head(model, head)
    maps = [features[name] for name in view.head_in_features]
    return DensePredictions(view, maps, outputs, class_map)


def stack_labels(labels: Any) -> Tensor:
    """(N, R) labels of what a detector's `label_anchors` returns: a tensor, or one an image."""
    return labels if isinstance(labels, Tensor) else torch.stack(list(labels))

"""What a dense head predicts, read level by level in one form for every family of detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "DenseLevel",
    "DensePredictions",
    "decode_boxes",
    "dense_owner",
    "dense_predictions",
    "stack_labels",
]


def dense_owner(model: nn.Module, head: str) -> nn.Module:
    """The module that holds anchors and box transform: the detector itself, or its RPN.

    Args:
        model: a detector.
        head: "dense" for the head of a one-stage detector, "rpn" for the RPN of another.
    """
    return model.proposal_generator if head == "rpn" else model


def decode_boxes(owner: nn.Module, deltas: Tensor, anchors: Tensor, stride: int) -> Tensor:
    """Boxes (N, R, 4) in pixels of the network's input, not clipped to the image.

    Args:
        owner: see :func:`dense_owner`. A detector whose box transform is not Detectron2's has a
            method `decode_boxes(deltas, anchors, stride)`.
        deltas: (N, R, D) what its head predicts of the boxes.
        anchors: (R, 4) corners in pixels.
        stride: pixels per cell of the level.
    """
    own = getattr(owner, "decode_boxes", None)
    if own is not None:
        return own(deltas, anchors, stride)
    places = anchors.repeat(len(deltas), 1)
    return owner.box2box_transform.apply_deltas(deltas.flatten(0, 1), places).view_as(deltas)


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
    def owner(self) -> nn.Module:
        """The module that gives the deltas their meaning."""
        return self.predictions.owner

    @property
    def stride(self) -> int:
        """Pixels per cell."""
        return int(self.owner.anchor_generator.strides[self.index])

    @cached_property
    def logits(self) -> Tensor:
        """(N, R, K) logits of each class' own probability."""
        logits = self._by_anchor(self.predictions.outputs[0])
        class_logits = getattr(self.owner, "class_logits", None)
        if class_logits is not None:
            logits = class_logits(logits)
        class_map = self.predictions.class_map
        return logits if class_map is None else logits[..., class_map]

    @cached_property
    def deltas(self) -> Tensor:
        """(N, R, D) what the head predicts of the boxes."""
        return self._by_anchor(self.predictions.outputs[1])

    @cached_property
    def anchors(self) -> Tensor:
        """(R, 4) corners in pixels."""
        height, width = self.size
        return self.predictions.anchors[self.index][:height, :width].reshape(-1, 4)

    def boxes(self) -> Tensor:
        """The predicted boxes, (N, R, 4) float32 corners in pixels."""
        return decode_boxes(self.owner, self.deltas.float(), self.anchors, self.stride)

    def _by_anchor(self, levels: Sequence[Tensor]) -> Tensor:
        """(N, H W A, D) from (N, A D, H, W), also of a crop, and of a level without a cell."""
        height, width = self.size
        output = levels[self.index][..., :height, :width]
        per_cell = self.predictions.num_anchors[self.index]
        number, channels = output.shape[:2]
        cells = output.unflatten(1, (per_cell, channels // per_cell)).permute(0, 3, 4, 1, 2)
        return cells.reshape(number, height * width * per_cell, channels // per_cell)


class DensePredictions:
    """What a dense head says about a batch; nothing is rearranged before a level is asked for."""

    def __init__(
        self,
        owner: nn.Module,
        features: Sequence[Tensor],
        outputs: Sequence[Sequence[Tensor]],
        class_map: Tensor | None = None,
    ) -> None:
        """Notes a head's outputs.

        Args:
            owner: see :func:`dense_owner`.
            features: (N, C, H, W) maps that the head read.
            outputs: what it returned: logits and deltas, each a list of (N, A * D, H, W) by level,
                and possibly more.
            class_map: (K,) the head's column of every class that is wanted; None for all.
        """
        self.owner = owner
        self.outputs = outputs
        self.class_map = class_map
        self._features = features

    @cached_property
    def anchors(self) -> list[Tensor]:
        """(H, W, A, 4) corners in pixels for every level."""
        anchors = self.owner.anchor_generator(list(self._features))
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
        return list(self.owner.anchor_generator.num_anchors)

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
    owner = dense_owner(model, head)
    names = owner.in_features if head == "rpn" else owner.head_in_features
    return DensePredictions(owner, [features[name] for name in names], outputs, class_map)


def stack_labels(labels: Any) -> Tensor:
    """(N, R) labels of what a detector's `label_anchors` returns: a tensor, or one an image."""
    return labels if isinstance(labels, Tensor) else torch.stack(list(labels))

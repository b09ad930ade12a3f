"""Detectron2's own dense heads through the contract: RPN, RetinaNet and FCOS."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.modeling.proposal_generator import RPN
from torch import Tensor, nn

from distill.views.contract import DenseHead

__all__ = ["apply_deltas", "best_probability", "central_probability", "dense_head"]


def dense_head(model: nn.Module, head: str = "dense") -> DenseHead:
    """The head of a detector, as the contract has it.

    Args:
        model: a detector with the signal of that name.
        head: "dense" for the head of a one-stage detector, "rpn" for the RPN of another.
    """
    if head == "rpn":
        return _RPNHead(model.proposal_generator)
    if isinstance(model, FCOS):
        return _FCOSHead(model)
    if isinstance(model, RetinaNet):
        return _RetinaNetHead(model)
    return model


def apply_deltas(transform: object, deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (N, R, 4) in pixels of deltas (N, R, 4) at anchors (R, 4).

    Args:
        transform: one of Detectron2's Box2BoxTransform classes.
        deltas: what a head predicts.
        anchors: corners in pixels.
    """
    places = anchors.repeat(len(deltas), 1)
    return transform.apply_deltas(deltas.flatten(0, 1), places).view_as(deltas)


def best_probability(logits: Sequence[Tensor]) -> list[Tensor]:
    """(N, R_l) probability of the best class by level, of (N, R_l, K) logits."""
    return [x.amax(2).sigmoid() for x in logits]


def central_probability(logits: Sequence[Tensor], centerness: Sequence[Tensor]) -> list[Tensor]:
    """(N, R_l) by level, the geometric mean of the best class' probability and the centerness.

    Args:
        logits: (N, R_l, K) by level.
        centerness: (N, R_l, 1) logits by level.
    """
    return [
        (x * y.squeeze(2).sigmoid()).sqrt()
        for x, y in zip(best_probability(logits), centerness, strict=True)
    ]


class _RetinaNetHead:
    """RetinaNet's head: class logits, and deltas of the detector's own transform."""

    def __init__(self, owner: nn.Module) -> None:
        self._owner = owner
        self.head_in_features = owner.head_in_features
        self.anchor_generator = owner.anchor_generator
        self.num_classes = owner.num_classes

    def class_logits(self, logits: Tensor) -> Tensor:
        return logits

    def decode_boxes(self, deltas: Tensor, anchors: Tensor, stride: int) -> Tensor:
        return apply_deltas(self._owner.box2box_transform, deltas, anchors)

    def objectness(self, outputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return best_probability(outputs[0])


class _FCOSHead(_RetinaNetHead):
    """FCOS' head, which also predicts how central a location is in its object."""

    def objectness(self, outputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        logits, _, centerness = outputs
        return central_probability(logits, centerness)


class _RPNHead(_RetinaNetHead):
    """An RPN's head: a single class, the object."""

    def __init__(self, owner: RPN) -> None:
        self._owner = owner
        self.head_in_features = owner.in_features
        self.anchor_generator = owner.anchor_generator
        self.num_classes = 1

"""Losses in which an object counts as much as its label is certain.

A model input may have `box_weights`, (G,) weights of `instances.gt_boxes`: see
`distill.data.mapper`. What an anchor or proposal costs depends on its own predictions alone, so
their gradient, scaled by w, is that of the cost times w, whatever the loss. Training is therefore
that with weighted losses, but the losses that are reported are the unweighted ones. What they are
divided by (anchors, proposals or positives) is not weighted. Background counts fully.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from distill.modeling.batch_context import BatchContext, extend, pad_rows

__all__ = ["add_box_weights", "matched_weights", "scale_gradient"]


def add_box_weights(detector: nn.Module) -> None:
    """Makes a detector honour `box_weights` in training; calling this again changes nothing.

    These are the losses of classes, boxes, objectness and centerness; not those of masks or
    keypoints. Batches without weights other than 1, and evaluation, are as they were.

    Args:
        detector: the student itself, not a Distiller.

    Raises:
        ValueError: one sentence, if it has no losses as Detectron2's detectors do.
    """
    if _BoxWeights.is_attached(detector):
        return
    context = _BoxWeights()
    generator = getattr(detector, "proposal_generator", None)
    predictors = getattr(getattr(detector, "roi_heads", None), "box_predictor", None)
    found = False
    if isinstance(detector, DenseDetector) and hasattr(detector, "label_anchors"):
        found = True
        extend(detector, "forward_training", context.forward_training)
        extend(detector, "label_anchors", context.label_anchors, detector.num_classes)
    if hasattr(generator, "label_and_sample_anchors"):
        found = True
        extend(generator, "losses", context.rpn_losses)
    # A cascade has one for every stage.
    for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
        if hasattr(predictor, "losses"):
            found = True
            extend(predictor, "losses", context.roi_losses, predictor.num_classes)
    if not found:
        raise ValueError(
            f"{type(detector).__name__} has no losses as Detectron2's detectors do, so its boxes "
            "can't be weighted: set DISTILL.PSEUDO.SCORE_WEIGHTS to False"
        )
    context.attach(detector)


def scale_gradient(x: Tensor, factor: Tensor) -> Tensor:
    """A view with the same values, whose gradient is multiplied by a factor that broadcasts."""
    view = x.view_as(x)
    # No gradient is asked for where a forward in training mode runs under no_grad.
    if view.requires_grad:
        view.register_hook(lambda gradient: gradient * factor.to(gradient.dtype))
    return view


@torch.no_grad()
def matched_weights(matched: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    """The weights of the boxes that anchors or proposals were matched to.

    Args:
        matched: (R, 4) boxes, copies of some of the others.
        boxes: (G, 4) boxes, with G >= 1.
        weights: (G,) their weights.

    Returns:
        (R,) weights, of equal boxes the largest; 0 for what is no copy.
    """
    same = (matched[:, None] == boxes).all(dim=-1)
    return torch.where(same, weights, 0).amax(dim=-1)


class _BoxWeights(BatchContext):
    """The weights of the batch's boxes, and the methods of the detector that are to know them.

    Attributes:
        boxes: (N, G, 4) corners, zeros where padded; None if the batch has no weights.
        weights: (N, G) likewise.
    """

    def __init__(self) -> None:
        self.clear()

    def read(self, inputs: Sequence[dict[str, Any]], device: torch.device) -> None:
        self.clear()
        given = [x["box_weights"] for x in inputs if "box_weights" in x]
        # True labels weigh 1. They are looked at in host memory, where mappers leave them.
        if all(bool((x == 1).all()) for x in given):
            return
        boxes = [x["instances"].gt_boxes.tensor for x in inputs]
        weights = [_weights(x, len(y)) for x, y in zip(inputs, boxes, strict=True)]
        self.boxes, self.weights = pad_rows(boxes, device), pad_rows(weights, device)

    def clear(self) -> None:
        self.boxes: Tensor | None = None
        self.weights: Tensor | None = None
        # Views of the head's maps, whose gradients are scaled once the anchors have labels.
        self._views: list[list[Tensor]] = []

    def forward_training(
        self,
        forward: Callable,
        images: ImageList,
        features: list[Tensor],
        predictions: Sequence[list[Tensor]],
        instances: list[Instances],
    ) -> dict[str, Tensor]:
        """That of a dense detector, which calls `label_anchors` before its losses."""
        if self.boxes is not None:
            # The head's own maps are left to the losses of distillation.
            predictions = self._views = [[x.view_as(x) for x in maps] for maps in predictions]
        return forward(images, features, predictions, instances)

    def label_anchors(
        self, label: Callable, background: int, anchors: list[Boxes], instances: list[Instances]
    ) -> tuple[Any, Any]:
        """That of a dense detector; labels and boxes are tensors or lists of one an image."""
        labels, boxes = label(anchors, instances)
        if self._views:
            positive = [(x >= 0) & (x != background) for x in labels]
            weights = torch.stack(self._of_positives(positive, boxes))
            by_level = weights.split([len(x) for x in anchors], dim=1)
            for maps in self._views:
                for x, level in zip(maps, by_level, strict=True):
                    _scale_map(x, level)
        return labels, boxes

    def rpn_losses(
        self,
        losses: Callable,
        anchors: list[Boxes],
        logits: list[Tensor],
        labels: list[Tensor],
        deltas: list[Tensor],
        boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Those of an RPN, whose positives have the label 1."""
        if self.boxes is not None:
            weights = torch.stack(self._of_positives([x == 1 for x in labels], boxes))
            by_level = weights.split([len(x) for x in anchors], dim=1)
            levels = list(zip(logits, deltas, by_level, strict=True))
            logits = [scale_gradient(x, level) for x, _, level in levels]
            deltas = [scale_gradient(x, level[..., None]) for _, x, level in levels]
        return losses(anchors, logits, labels, deltas, boxes)

    def roi_losses(
        self,
        losses: Callable,
        background: int,
        predictions: tuple[Tensor, Tensor],
        proposals: list[Instances],
    ) -> dict[str, Tensor]:
        """Those of a box predictor."""
        if self.boxes is not None:
            positive = [(x.gt_classes >= 0) & (x.gt_classes != background) for x in proposals]
            # Images without objects have no positives, and no boxes to match.
            boxes = [x.gt_boxes if x.has("gt_boxes") else x.proposal_boxes for x in proposals]
            weights = torch.cat(self._of_positives(positive, boxes))
            predictions = tuple(scale_gradient(x, weights[:, None]) for x in predictions)
        return losses(predictions, proposals)

    def _of_positives(
        self, positive: Sequence[Tensor], matched: Sequence[Boxes | Tensor]
    ) -> list[Tensor]:
        """The weights (R,) of every image, 1 where (R,) `positive` is False."""
        tables = [x.tensor if isinstance(x, Boxes) else x for x in matched]
        images = zip(positive, tables, self.boxes, self.weights, strict=True)
        return [torch.where(x, matched_weights(*own), 1) for x, *own in images]


def _weights(sample: dict[str, Any], count: int) -> Tensor:
    """The weights of an image with `count` boxes."""
    weights = sample.get("box_weights")
    if weights is None:
        return torch.ones(count)
    if len(weights) != count:
        raise ValueError(
            f"{sample.get('file_name', 'an image')} has {len(weights)} box_weights for {count} "
            "boxes: the mapper must give one for each."
        )
    return weights


def _scale_map(x: Tensor, weights: Tensor) -> None:
    """Scales the gradient of a map (N, A D, H, W) by the (N, H W A) weights of its anchors."""
    if not x.requires_grad:
        return
    number, _, height, width = x.shape
    factor = weights.view(number, height, width, -1).permute(0, 3, 1, 2)[:, :, None]

    def scale(gradient: Tensor) -> Tensor:
        by_anchor = gradient.unflatten(1, (factor.shape[1], -1))
        return (by_anchor * factor.to(gradient.dtype)).flatten(1, 2)

    x.register_hook(scale)

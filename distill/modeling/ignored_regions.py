"""Regions of training images that are neither object nor background.

A model input may have `ignore_boxes`, (I, 4) corners in pixels: see `distill.data.mapper`. Within
them anchors and proposals that no object was given to are left out of the losses, where they would
be background. One lies in a region if its center does. So does every one that has half of its area
in the region, or an IoU of 0.5 with it. A limit on overlap alone would keep, as background, much of
what a detector gives to an object at lower IoU: the best anchors of RPN and SSD, and the locations
of FCOS, ATSS and GFL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from distill.modeling.batch_context import BatchContext, extend, pad_rows

__all__ = ["add_ignore_regions", "centers_inside"]

# A logit whose sigmoid, and so the focal loss of background, is 0; half precision holds it.
_CERTAIN_BACKGROUND = -1e4
_IGNORE = -1


def add_ignore_regions(detector: nn.Module) -> None:
    """Makes a detector honour `ignore_boxes` in training; calling this again changes nothing.

    RPN and ROI heads sample other negatives instead; the later stages of a cascade leave the boxes
    out; dense detectors label their anchors -1. Batches without such boxes, and evaluation, are as
    they were.

    Args:
        detector: the student itself, not a Distiller; a dense detector must leave out anchors of
            label -1, as Detectron2's RetinaNet and this library's detectors do, and FCOS does then.

    Raises:
        ValueError: one sentence, if it labels neither anchors nor proposals as Detectron2 does.
    """
    if _IgnoreRegions.is_attached(detector):
        return
    context = _IgnoreRegions()
    generator = getattr(detector, "proposal_generator", None)
    heads = getattr(detector, "roi_heads", None)
    found = False
    if hasattr(detector, "label_anchors"):
        found = True
        extend(detector, "label_anchors", context.label_anchors, detector.num_classes)
        if isinstance(detector, FCOS):
            extend(detector, "losses", context.fcos_losses, detector.num_classes)
    if hasattr(generator, "_subsample_labels"):
        found = True
        extend(generator, "label_and_sample_anchors", context.label_and_sample_anchors)
        extend(generator, "_subsample_labels", context.subsample_labels)
    if hasattr(heads, "_sample_proposals"):
        found = True
        extend(heads, "label_and_sample_proposals", context.label_and_sample_proposals)
        extend(heads, "_sample_proposals", context.sample_proposals, heads.num_classes)
    if hasattr(heads, "_match_and_label_boxes"):
        extend(heads, "_match_and_label_boxes", context.match_boxes, heads.num_classes)
    if not found:
        raise ValueError(
            f"{type(detector).__name__} labels neither anchors nor proposals as Detectron2's "
            "detectors do, so it can't ignore boxes: set DISTILL.PSEUDO.IGNORE_THRESHOLD to 0"
        )
    context.attach(detector)


@torch.no_grad()
def centers_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Whether the centers of boxes lie in some region.

    Args:
        boxes: (R, 4) corners.
        regions: (I, 4) corners; those without area, as padding, contain nothing.

    Returns:
        (R,) bool.
    """
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2)[..., None].unbind(dim=1)
    left, top, right, bottom = regions.unbind(dim=1)
    return ((x >= left) & (x < right) & (y >= top) & (y < bottom)).any(dim=1)


class _IgnoreRegions(BatchContext):
    """The regions of the batch, and the methods of the detector that are to know them.

    Attributes:
        regions: (N, I, 4) corners, without area where padded; None if the batch has none.
    """

    def __init__(self) -> None:
        self.regions: Tensor | None = None
        # Which anchors or proposals of each image that has not been sampled yet lie in a region.
        self._inside: list[Tensor] = []

    def read(self, inputs: Sequence[dict[str, Any]], device: torch.device) -> None:
        self.clear()
        none = torch.zeros(0, 4)
        regions = [x.get("ignore_boxes", none) for x in inputs]
        if any(len(x) for x in regions):
            self.regions = pad_rows(regions, device)

    def clear(self) -> None:
        self.regions, self._inside = None, []

    def label_anchors(
        self, label: Callable, background: int, anchors: list[Boxes], instances: list[Instances]
    ) -> tuple[Any, Any]:
        """The labels of a dense detector, a tensor or a list of one an image."""
        labels, boxes = label(anchors, instances)
        if self.regions is None:
            return labels, boxes
        table = Boxes.cat(anchors).tensor
        changed = [
            x.masked_fill((x == background) & centers_inside(table, regions), _IGNORE)
            for x, regions in zip(labels, self.regions, strict=True)
        ]
        return torch.stack(changed) if isinstance(labels, Tensor) else changed, boxes

    def fcos_losses(
        self,
        losses: Callable,
        background: int,
        anchors: list[Boxes],
        logits: list[Tensor],
        labels: list[Tensor],
        *rest: Any,
    ) -> dict[str, Tensor]:
        """Those of Detectron2's FCOS, which knows no label -1."""
        if self.regions is None:
            return losses(anchors, logits, labels, *rest)
        ignored = torch.stack(labels) == _IGNORE
        by_level = ignored.split([x.shape[1] for x in logits], dim=1)
        logits = [
            x.masked_fill(level[..., None], _CERTAIN_BACKGROUND)
            for x, level in zip(logits, by_level, strict=True)
        ]
        labels = [x.masked_fill(x == _IGNORE, background) for x in labels]
        return losses(anchors, logits, labels, *rest)

    def label_and_sample_anchors(
        self, label: Callable, anchors: list[Boxes], instances: list[Instances]
    ) -> Any:
        """That of the RPN, which calls `subsample_labels` for one image after the other."""
        if self.regions is not None:
            table = Boxes.cat(anchors).tensor
            self._inside = [centers_inside(table, regions) for regions in self.regions]
        return label(anchors, instances)

    def subsample_labels(self, subsample: Callable, labels: Tensor) -> Tensor:
        """That of the RPN; (R,) labels are 0 for the background."""
        if self.regions is not None:
            labels = labels.masked_fill((labels == 0) & self._inside.pop(0), _IGNORE)
        return subsample(labels)

    def label_and_sample_proposals(
        self, label: Callable, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """That of the ROI heads, which calls `sample_proposals` for one image after the other."""
        if self.regions is not None:
            boxes = [x.proposal_boxes.tensor for x in proposals]
            images = zip(boxes, self.regions, strict=True)
            self._inside = [centers_inside(x, regions) for x, regions in images]
        return label(proposals, targets)

    def sample_proposals(
        self, sample: Callable, background: int, index: Tensor, matches: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """That of the ROI heads; (P,) matches are 0 for background, (G,) classes the objects'."""
        if self.regions is None:
            return sample(index, matches, classes)
        inside = self._inside.pop(0)
        # The objects themselves may have been appended to the proposals.
        inside = F.pad(inside, (0, len(matches) - len(inside)))
        if not len(classes):
            # Detectron2 reads no matches of an image without objects; this one is background too.
            classes = classes.new_full((1,), background)
        return sample(index, matches.masked_fill((matches == 0) & inside, _IGNORE), classes)

    def match_boxes(
        self,
        match: Callable,
        background: int,
        proposals: list[Instances],
        stage: int,
        targets: list[Instances],
    ) -> list[Instances]:
        """That of a cascade's later stages, which take all boxes that they are given."""
        matched = match(proposals, stage, targets)
        if self.regions is None:
            return matched
        return [
            x[(x.gt_classes != background) | ~centers_inside(x.proposal_boxes.tensor, regions)]
            for x, regions in zip(matched, self.regions, strict=True)
        ]

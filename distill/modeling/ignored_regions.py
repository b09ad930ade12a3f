"""Regions of training images that are neither object nor background.

A model input may have `ignore_boxes`, (I, 4) corners in pixels: see `distill.data.mapper`. Within
them anchors and proposals that no object was given to are left out of the losses, where they would
be background. One lies in a region if its center does. A limit on overlap would keep, as
background, much of what a detector gives to an object at lower IoU: the best anchors of RPN and
SSD, and the locations of FCOS, ATSS and GFL.

Detectron2 offers no place to say so. For one forward in training of a batch that has such boxes,
functions here therefore stand in for the methods of the detector that label anchors and proposals.
Whether the forward succeeds or fails, the detector is afterwards what it was before.

Letters: N images, I regions an image, R anchors, P proposals, G objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, ROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from distill.modeling.dense.targets import CERTAIN_BACKGROUND
from distill.ops.boxes import box_centers
from distill.ops.padding import pad_rows
from distill.utils.replacement import replaced_method
from distill.views.contract import OneStageDetector

__all__ = ["add_ignored_regions", "centers_inside", "ignored_regions"]

_IGNORE = -1


def add_ignored_regions(detector: nn.Module, around: nn.Module | None = None) -> None:
    """Makes a detector honor `ignore_boxes` whenever a module runs in training.

    Hooks enter :func:`ignored_regions` before a forward and leave it after, also after one that
    fails. Calling this again changes nothing; a deep copy of the module acts on its own detector.

    Args:
        detector: the student itself; see :func:`ignored_regions`.
        around: the module whose forward runs it: a Distiller, so that its methods too see which
            anchors are ignored. None for the detector itself.

    Raises:
        ValueError: one sentence, if it labels neither anchors nor proposals as Detectron2 does.
    """
    if not any(_replacements(detector)):
        raise ValueError(
            f"{type(detector).__name__} labels neither anchors nor proposals as Detectron2's "
            "detectors do, so it can't ignore boxes: set DISTILL.PSEUDO.IGNORE_THRESHOLD to 0"
        )
    module = detector if around is None else around
    if any(isinstance(hook, _Begin) for hook in module._forward_pre_hooks.values()):
        return
    begin = _Begin(detector)
    module.register_forward_pre_hook(begin, with_kwargs=True)
    module.register_forward_hook(begin.end, always_call=True)


@contextmanager
def ignored_regions(detector: nn.Module, inputs: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Leaves what lies in the regions of a batch out of a detector's losses, in this context.

    RPN and ROI heads sample other negatives instead; the later stages of a cascade leave the boxes
    out; dense detectors label their anchors -1. Nothing changes for a batch without such boxes.

    Args:
        detector: a dense detector must leave out anchors of label -1, as Detectron2's RetinaNet
            and this library's detectors do, and FCOS does then.
        inputs: the batch, in Detectron2's format.
    """
    none = torch.zeros(0, 4)
    boxes = [x.get("ignore_boxes", none) for x in inputs]
    with ExitStack() as undo:
        if any(len(x) for x in boxes):
            # Put together where they lie, usually in host memory, and copied once.
            regions, _ = pad_rows(boxes)
            batch = _Batch(regions.to(detector.device, non_blocking=True))
            for owner, name, method in _replacements(detector):
                method = partial(method, batch, owner)
                undo.enter_context(replaced_method(owner, name, method))
        yield


@torch.no_grad()
def centers_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Whether the centers of boxes lie in some region.

    Args:
        boxes: (R, 4) corners.
        regions: (I, 4) corners; those without area, as padding, contain nothing.

    Returns:
        (R,) bool.
    """
    x, y = box_centers(boxes)[..., None].unbind(dim=1)
    left, top, right, bottom = regions.unbind(dim=1)
    return ((x >= left) & (x < right) & (y >= top) & (y < bottom)).any(dim=1)


class _Begin:
    """The hook that enters the context before a forward; its method is the one that leaves it.

    Objects as hooks follow deep copies of the module, which closures would not.
    """

    def __init__(self, detector: nn.Module) -> None:
        self.detector = detector
        self._undo = ExitStack()

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        # A forward that a signal interrupted did not come to its end.
        self._undo.close()
        if module.training:
            batch = [*args, *kwargs.values()][0]
            self._undo.enter_context(ignored_regions(self.detector, batch))

    def end(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._undo.close()


class _Batch:
    """The regions of a batch, and what stands in for methods of a detector that runs on it.

    The methods get their owner and the method that they replace before its own arguments.

    Attributes:
        regions: (N, I, 4) corners, without area where padded.
    """

    def __init__(self, regions: Tensor) -> None:
        self.regions = regions
        # Which anchors or proposals of each image that has not been sampled yet lie in a region.
        self._inside: list[Tensor] = []

    def label_anchors(
        self,
        detector: nn.Module,
        label: Callable,
        anchors: list[Boxes],
        instances: list[Instances],
    ) -> tuple[Any, Any]:
        """The labels of a dense detector, a tensor or a list of one an image."""
        labels, boxes = label(anchors, instances)
        table = Boxes.cat(anchors).tensor
        changed = [
            x.masked_fill((x == detector.num_classes) & centers_inside(table, regions), _IGNORE)
            for x, regions in zip(labels, self.regions, strict=True)
        ]
        return torch.stack(changed) if isinstance(labels, Tensor) else changed, boxes

    def fcos_losses(
        self,
        detector: FCOS,
        losses: Callable,
        anchors: list[Boxes],
        logits: list[Tensor],
        labels: list[Tensor],
        *rest: Any,
    ) -> dict[str, Tensor]:
        """Those of Detectron2's FCOS, which knows no label -1."""
        ignored = torch.stack(labels) == _IGNORE
        by_level = ignored.split([x.shape[1] for x in logits], dim=1)
        logits = [
            x.masked_fill(level[..., None], CERTAIN_BACKGROUND)
            for x, level in zip(logits, by_level, strict=True)
        ]
        labels = [x.masked_fill(x == _IGNORE, detector.num_classes) for x in labels]
        return losses(anchors, logits, labels, *rest)

    def label_and_sample_anchors(
        self, rpn: RPN, label: Callable, anchors: list[Boxes], instances: list[Instances]
    ) -> Any:
        """That of the RPN, which calls `subsample_labels` for one image after the other."""
        table = Boxes.cat(anchors).tensor
        self._inside = [centers_inside(table, regions) for regions in self.regions]
        return label(anchors, instances)

    def subsample_labels(self, rpn: RPN, subsample: Callable, labels: Tensor) -> Tensor:
        """That of the RPN; (R,) labels are 0 for the background."""
        return subsample(labels.masked_fill((labels == 0) & self._inside.pop(0), _IGNORE))

    def label_and_sample_proposals(
        self,
        heads: ROIHeads,
        label: Callable,
        proposals: list[Instances],
        targets: list[Instances],
    ) -> list[Instances]:
        """That of the ROI heads, which calls `sample_proposals` for one image after the other."""
        boxes = [x.proposal_boxes.tensor for x in proposals]
        images = zip(boxes, self.regions, strict=True)
        self._inside = [centers_inside(x, regions) for x, regions in images]
        return label(proposals, targets)

    def sample_proposals(
        self, heads: ROIHeads, sample: Callable, index: Tensor, matches: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """That of the ROI heads; (P,) matches are 0 for background, (G,) classes the objects'."""
        inside = self._inside.pop(0)
        # The objects themselves may have been appended to the proposals.
        inside = F.pad(inside, (0, len(matches) - len(inside)))
        if not len(classes):
            # Detectron2 reads no matches of an image without objects; this one is background too.
            classes = classes.new_full((1,), heads.num_classes)
        return sample(index, matches.masked_fill((matches == 0) & inside, _IGNORE), classes)

    def match_boxes(
        self,
        heads: CascadeROIHeads,
        match: Callable,
        proposals: list[Instances],
        stage: int,
        targets: list[Instances],
    ) -> list[Instances]:
        """That of a cascade's later stages, which take all boxes that they are given."""
        matched = zip(match(proposals, stage, targets), self.regions, strict=True)
        return [
            x[
                (x.gt_classes != heads.num_classes)
                | ~centers_inside(x.proposal_boxes.tensor, regions)
            ]
            for x, regions in matched
        ]


def _replacements(detector: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[..., Any]]]:
    """The methods to replace: their owner, name and what stands in for them."""
    if isinstance(detector, OneStageDetector):
        yield detector, "label_anchors", _Batch.label_anchors
        if isinstance(detector, FCOS):
            yield detector, "losses", _Batch.fcos_losses
    for module in detector.modules():
        if isinstance(module, RPN):
            yield module, "label_and_sample_anchors", _Batch.label_and_sample_anchors
            yield module, "_subsample_labels", _Batch.subsample_labels
        if isinstance(module, ROIHeads):
            yield module, "label_and_sample_proposals", _Batch.label_and_sample_proposals
            yield module, "_sample_proposals", _Batch.sample_proposals
        if isinstance(module, CascadeROIHeads):
            yield module, "_match_and_label_boxes", _Batch.match_boxes

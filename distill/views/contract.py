"""What a detector must offer so that its knowledge can be distilled, said once.

A method names the signals that it reads; :func:`offered_signals` tells which ones a detector has.
Detectron2's own RPN, RetinaNet and FCOS do not speak this language themselves: `views.heads` does
it for them. A detector of your own follows the Protocols below, by their members alone; nothing has
to be inherited or registered.

Letters: N images, C channels, H and W cells, R anchors, A anchors a cell, K classes, D values that
a head predicts for an anchor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

__all__ = [
    "AnchorGenerator",
    "Backbone",
    "DenseHead",
    "DistributionHead",
    "FeatureDetector",
    "OneStageDetector",
    "TeachingDetector",
    "TwoStageDetector",
    "offered_signals",
]


class Backbone(Protocol):
    """Makes feature maps of images."""

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Maps (N, C, H, W) by level name of (N, 3, H', W') normalized, padded images."""

    def output_shape(self) -> Mapping[str, ShapeSpec]:
        """Stride and channels of every level."""


@runtime_checkable
class FeatureDetector(Protocol):
    """A detector with a backbone: the signal "features"."""

    backbone: Backbone
    """Called once a forward, by the detector itself."""
    device: torch.device
    """Where its parameters are."""


@runtime_checkable
class TeachingDetector(FeatureDetector, Protocol):
    """What a teacher must offer besides, as its backbone is run without its forward."""

    def preprocess_image(self, batched_inputs: Sequence[dict[str, Any]]) -> ImageList:
        """The batch, normalized and padded as this detector wants it."""


@runtime_checkable
class TwoStageDetector(FeatureDetector, Protocol):
    """A detector of proposals and a head on them: "proposals", "rpn_proposals", "rpn", "roi"."""

    proposal_generator: nn.Module
    """Called with images, features and objects; returns proposals, one Instances an image, first.
    The signal "rpn" needs Detectron2's RPN."""
    roi_heads: nn.Module
    """The signal "roi" needs Detectron2's StandardROIHeads or Res5ROIHeads, or a subclass of them;
    not a cascade, whose stages see different boxes."""


class AnchorGenerator(Protocol):
    """Detectron2's interface of anchor generators."""

    strides: Sequence[int]
    """Pixels per cell, by level."""
    num_anchors: Sequence[int]
    """A, by level."""
    offset: float
    """Place of a cell's anchors: 0 for its upper left corner, 0.5 for its center."""

    def __call__(self, features: list[Tensor]) -> list[Boxes]:
        """The (H W A, 4) anchors of every level, in pixels."""


@runtime_checkable
class DenseHead(Protocol):
    """What a head predicts at every anchor, and what that means.

    A one-stage detector offers this itself (Detectron2's by `views.heads`).
    """

    head_in_features: Sequence[str]
    """Names of the levels that the head reads, from the finest to the coarsest."""
    anchor_generator: AnchorGenerator
    """Gives the anchors of these levels."""
    num_classes: int
    """K, without a background."""

    def class_logits(self, logits: Tensor) -> Tensor:
        """(N, R, K) logits of each class' own probability, of the head's (N, R, D) logits."""

    def decode_boxes(self, deltas: Tensor, anchors: Tensor, stride: int) -> Tensor:
        """(N, R, 4) corners in pixels, not clipped, of (N, R, D) deltas and (R, 4) anchors."""

    def objectness(self, outputs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """How probably an anchor holds an object of any class.

        Args:
            outputs: what the head returned, each a list of (N, R_l, D) by level: logits first,
                deltas second, then what else this head predicts.

        Returns:
            (N, R_l) in [0, 1] by level.
        """


@runtime_checkable
class OneStageDetector(FeatureDetector, Protocol):
    """A detector with a dense head: the signals "dense" and "proposals"."""

    head: nn.Module
    """Called once a forward with the list of maps; returns lists by level of (N, A D, H, W):
    logits, deltas, and possibly more."""

    def label_anchors(self, anchors: list[Boxes], instances: list[Instances]) -> tuple[Any, Any]:
        """The targets of the anchors; called once a forward in training.

        Returns:
            Labels (N, R), K for the background and -1 for what is ignored, and the boxes
            (N, R, 4) of the objects; a tensor each, or a list of N.
        """

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Sequence[list[Tensor]]
    ) -> list[Instances]:
        """The detections of what the head returned."""


@runtime_checkable
class DistributionHead(DenseHead, Protocol):
    """A dense head that predicts boxes as distributions: the signal "distribution"."""

    num_bins: int
    """B: a delta is (4 B) logits, B for each side."""

    def valuable_region(self, anchors: list[Boxes], instances: list[Instances]) -> Tensor:
        """(N, R) weights of the anchors around objects whose distributions are worth imitating."""


def offered_signals(model: nn.Module) -> frozenset[str]:
    """The signals that a detector offers.

    "features"; "rpn_proposals" of a two-stage detector, "rpn" where these come from Detectron2's
    RPN, and "roi" where a single box head judges them; "dense" of a one-stage detector, and
    "distribution" where it predicts boxes as such. "proposals" are there wherever boxes are: those
    of the RPN, or the best boxes of a dense head.

    Args:
        model: any detector.
    """
    signals = set()
    if isinstance(model, FeatureDetector):
        signals.add("features")
    if isinstance(model, TwoStageDetector) and model.proposal_generator is not None:
        signals |= {"rpn_proposals", "proposals"}
        if isinstance(model.proposal_generator, RPN):
            signals.add("rpn")
        if isinstance(model.roi_heads, (StandardROIHeads, Res5ROIHeads)) and not isinstance(
            model.roi_heads, CascadeROIHeads
        ):
            signals.add("roi")
    if isinstance(model, OneStageDetector) and isinstance(model, (RetinaNet, FCOS, DenseHead)):
        signals |= {"proposals", "dense"}
        if isinstance(model, DistributionHead):
            signals.add("distribution")
    return frozenset(signals)

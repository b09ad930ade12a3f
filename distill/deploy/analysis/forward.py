"""The forward of a detector that is counted: every layer, but neither NMS nor post-processing."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from distill.views.roi import run_roi_head

__all__ = ["run_layers"]

_ADDITIONS = (torch.add, Tensor.add, Tensor.__add__)


def run_layers(detector: nn.Module, image: Tensor, num_proposals: int) -> list[Any]:
    """Runs backbone, RPN head and ROI box head, or backbone and dense head, on an image.

    Args:
        detector: a detector with a backbone and a proposal generator, ROI heads, or a head.
        image: (1, 3, H, W); H and W need not be multiples of any stride.
        num_proposals: boxes that the ROI head sees.

    Returns:
        All features and raw predictions: what leads to no output would not be in a trace.

    Raises:
        ValueError: the detector has none of these parts.
    """
    parts = ("backbone", "proposal_generator", "roi_heads", "head")
    backbone, rpn, roi_heads, head = (getattr(detector, name, None) for name in parts)
    if backbone is None or all(part is None for part in (rpn, roi_heads, head)):
        raise ValueError(
            f"A {type(detector).__name__} cannot be counted: MODEL.META_ARCHITECTURE must be a "
            "detector with a backbone and ROI heads, or with a backbone and a dense head."
        )
    with _CroppedAdditions():
        features = backbone(image)
    outputs: list[Any] = [features]
    if rpn is not None:
        outputs.append(rpn.rpn_head([features[name] for name in rpn.in_features]))
    if roi_heads is not None:
        # Pooling multiplies by no weights: where the boxes are, and how large, does not matter.
        boxes = Boxes(image.new_zeros(num_proposals, 4))
        for heads in _stages(roi_heads):
            roi = run_roi_head(heads, features, [boxes])
            outputs.append([roi.scores, roi.deltas])
    if head is not None:
        outputs.append(head([features[name] for name in detector.head_in_features]))
    return outputs


class _CroppedAdditions(TorchFunctionMode):
    """Adds two maps of unequal size on the cells that both have.

    A pyramid doubles 19 rows to 38 and these to 76, where an image of 600 unpadded rows has 75.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in _ADDITIONS and all(isinstance(x, Tensor) and x.dim() == 4 for x in args):
            height = min(x.shape[2] for x in args)
            width = min(x.shape[3] for x in args)
            args = tuple(x[..., :height, :width] for x in args)
        return func(*args, **(kwargs or {}))


def _stages(roi_heads: nn.Module) -> list[Any]:
    """The stages of a cascade, each like ROI heads of its own; other ROI heads are one stage."""
    if not isinstance(roi_heads.box_predictor, nn.ModuleList):
        return [roi_heads]
    return [
        SimpleNamespace(
            box_in_features=roi_heads.box_in_features,
            box_pooler=roi_heads.box_pooler,
            box_head=box_head,
            box_predictor=predictor,
        )
        for box_head, predictor in zip(roi_heads.box_head, roi_heads.box_predictor, strict=True)
    ]

"""Proposals of any detector as padded tensors: RPN boxes, or a dense head's best boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from distill.ops.padding import pad_rows
from distill.views.contract import offered_signals
from distill.views.dense import dense_predictions
from distill.views.heads import dense_head

__all__ = ["Proposals", "anchor_levels", "dense_proposals"]


@dataclass(frozen=True)
class Proposals:
    """The proposals of a batch, padded to P an image.

    Attributes:
        boxes: (N, P, 4) float32 corners in pixels of the network's input; zeros where padded.
        objectness: (N, P) float32 probability that a box holds an object; zeros where padded.
        valid: (N, P) bool, False where padded or filtered out.
    """

    boxes: Tensor
    objectness: Tensor
    valid: Tensor

    @classmethod
    def from_instances(cls, proposals: Sequence[Instances]) -> Proposals:
        """Pads what an RPN returned; the numbers of boxes are known without asking the device."""
        boxes, valid = pad_rows([x.proposal_boxes.tensor.detach().float() for x in proposals])
        scores = [x.objectness_logits.detach().float().sigmoid() for x in proposals]
        return cls(boxes, pad_rows(scores)[0], valid)


def anchor_levels(model: nn.Module, features: Mapping[str, Tensor]) -> dict[str, Boxes]:
    """The anchors of a detector, (H W A, 4) for every feature level that has some.

    Args:
        model: a detector with an RPN, or a one-stage one.
        features: its backbone's maps by level name.
    """
    head = dense_head(model, "rpn" if "rpn" in offered_signals(model) else "dense")
    names = head.head_in_features
    return dict(zip(names, head.anchor_generator([features[x] for x in names]), strict=True))


@torch.no_grad()
def dense_proposals(
    model: nn.Module,
    features: Mapping[str, Tensor],
    outputs: Sequence[Sequence[Tensor]],
    image_sizes: Sequence[tuple[int, int]],
    topk: int,
) -> Proposals:
    """The boxes of a one-stage detector that most probably hold an object, whatever its class.

    Args:
        model: the detector.
        features: its backbone's maps by level name.
        outputs: what its head returned, each a list of (N, A * D, H, W) by level.
        image_sizes: height and width of each image without padding; boxes are clipped to them.
        topk: boxes an image, over all levels.
    """
    head = dense_head(model)
    predictions = dense_predictions(model, "dense", features, outputs)
    levels = list(predictions)
    by_anchor = [[x.output(i).float() for x in levels] for i in range(len(outputs))]
    scores = torch.cat(head.objectness(by_anchor), dim=1)
    objectness, index = scores.topk(min(topk, scores.shape[1]), dim=1)
    decoded = torch.cat([x.boxes() for x in levels], dim=1)
    decoded = decoded.gather(1, index[..., None].expand(-1, -1, 4))
    limits = torch.tensor([[w, h, w, h] for h, w in image_sizes], dtype=torch.float32)
    limits = limits.to(decoded.device, non_blocking=True)[:, None]
    boxes = torch.minimum(decoded.clamp(min=0), limits)
    return Proposals(boxes, objectness, torch.ones_like(objectness, dtype=torch.bool))

"""Region proposals of any detector as padded tensors: RPN boxes, or a dense head's best boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from distill.views.dense import decode_boxes

__all__ = ["RegionProposals", "anchor_levels", "dense_regions"]


@dataclass(frozen=True)
class RegionProposals:
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
    def from_instances(cls, proposals: Sequence[Instances]) -> RegionProposals:
        """Pads what an RPN returned; the numbers of boxes are known without asking the device."""
        boxes = [x.proposal_boxes.tensor.detach().float() for x in proposals]
        scores = [x.objectness_logits.detach().float().sigmoid() for x in proposals]
        counts = torch.tensor([len(x) for x in boxes])
        padded = pad_sequence(boxes, batch_first=True)
        valid = torch.arange(padded.shape[1]) < counts[:, None]
        return cls(
            padded,
            pad_sequence(scores, batch_first=True),
            valid.to(padded.device, non_blocking=True),
        )


def anchor_levels(model: nn.Module, features: Mapping[str, Tensor]) -> dict[str, Boxes]:
    """The anchors of a detector, (H W A, 4) for every feature level that has some.

    Args:
        model: a detector with an RPN, or a dense one.
        features: its backbone's maps by level name.
    """
    owner = getattr(model, "proposal_generator", None)
    names = model.head_in_features if owner is None else owner.in_features
    generate = (model if owner is None else owner).anchor_generator
    return dict(zip(names, generate([features[name] for name in names]), strict=True))


@torch.no_grad()
def dense_regions(
    model: nn.Module,
    features: Mapping[str, Tensor],
    outputs: Sequence[Sequence[Tensor]],
    image_sizes: Sequence[tuple[int, int]],
    topk: int,
) -> RegionProposals:
    """The boxes of a dense detector that most probably hold an object, whatever its class.

    The objectness of an anchor is the probability of its best class (times the centerness, under
    a root, where the head predicts one, as FCOS does in inference), or what the detector's own
    method `objectness` says, which a detector with softmax scores defines.

    Args:
        model: a detector built on Detectron2's DenseDetector.
        features: its backbone's maps by level name.
        outputs: what its head returned: logits, deltas and possibly centerness, each a list of
            (N, A * D, H, W) by level.
        image_sizes: height and width of each image without padding; boxes are clipped to them.
        topk: boxes an image, over all levels.
    """
    anchors = list(anchor_levels(model, features).values())
    logits, deltas, *rest = (
        [_by_anchor(x.float(), boxes) for x, boxes in zip(levels, anchors, strict=True)]
        for levels in outputs
    )
    scores = torch.cat(_objectness(model, logits, *rest), dim=1)
    objectness, index = scores.topk(min(topk, scores.shape[1]), dim=1)
    decoded = torch.cat(
        [
            decode_boxes(model, x, boxes.tensor, stride)
            for x, boxes, stride in zip(
                deltas, anchors, model.anchor_generator.strides, strict=True
            )
        ],
        dim=1,
    ).gather(1, index[..., None].expand(-1, -1, 4))
    limits = torch.tensor([[w, h, w, h] for h, w in image_sizes], dtype=torch.float32)
    limits = limits.to(decoded.device, non_blocking=True)[:, None]
    boxes = torch.minimum(decoded.clamp(min=0), limits)
    return RegionProposals(boxes, objectness, torch.ones_like(objectness, dtype=torch.bool))


def _by_anchor(output: Tensor, anchors: Boxes) -> Tensor:
    """(N, H W A, D) from (N, A D, H, W)."""
    per_cell = len(anchors) // (output.shape[-2] * output.shape[-1])
    return permute_to_N_HWA_K(output, output.shape[1] // per_cell)


def _objectness(
    model: nn.Module, logits: list[Tensor], centerness: list[Tensor] | None = None
) -> list[Tensor]:
    """(N, R) by level, from (N, R, K) logits."""
    own = getattr(model, "objectness", None)
    if own is not None:
        return own(logits)
    best = [x.amax(2).sigmoid() for x in logits]
    if centerness is None:
        return best
    return [(x * y.squeeze(2).sigmoid()).sqrt() for x, y in zip(best, centerness, strict=True)]

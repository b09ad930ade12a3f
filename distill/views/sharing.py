"""The same proposals seen by the ROI heads of student and teacher.

Source: task-adaptive regularization, arXiv 2006.13108, runs the student's sampled proposals
through the teacher's head (a second-hand account); the teacher's proposals, or both, are options
of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling import ROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from distill.views.roi import RoiOutputs
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["SharedProposals", "share_proposals"]

_SOURCES = ("student", "teacher", "both")


@dataclass(frozen=True)
class SharedProposals:
    """P labeled proposals of a batch and what both ROI heads say about them.

    Attributes:
        boxes: (P, 4) corners in pixels.
        image_index: (P,) index of the image within the batch.
        classes: (P,) labels; K for the background, -1 for none.
        gt_boxes: (P, 4) box of the object that a foreground proposal belongs to; zeros in an
            image without objects.
        foreground: (P,) bool.
        student: the student's outputs, with gradient.
        teacher: the teacher's outputs, in the student's classes.
    """

    boxes: Tensor
    image_index: Tensor
    classes: Tensor
    gt_boxes: Tensor
    foreground: Tensor
    student: RoiOutputs
    teacher: RoiOutputs


def share_proposals(
    student: StudentSignals, teacher: TeacherSignals, source: str = "student"
) -> SharedProposals:
    """Runs one set of proposals through both ROI heads.

    Detectron2 samples the foreground first and at most POSITIVE_FRACTION of it, so only that many
    proposals an image are shared: all of the foreground, without asking the device how many.

    Args:
        student: signals with "roi".
        teacher: signals with "roi", and with "rpn_proposals" unless the source is "student".
        source: whose proposals: "student" (those it was trained on in this step), "teacher"
            (sampled and labeled by the student's ROI head), or "both".

    Raises:
        ValueError: if the source is none of the three.
    """
    if source not in _SOURCES:
        raise ValueError(f'SHARE is "{source}"; choose one of {", ".join(_SOURCES)}')
    heads = student.model.roi_heads
    parts = []
    if source != "teacher":
        kept = _foreground_first(heads, student.sampled)
        outputs = student.roi_outputs[_flat_index(student.sampled, kept, student.features)]
        boxes = [x[:k] for x, k in zip(student.roi_boxes, kept, strict=True)]
        instances = [x[:k] for x, k in zip(student.sampled, kept, strict=True)]
        parts.append((boxes, instances, outputs))
    if source != "student":
        sampled = _sample(heads, teacher.rpn_proposals, student.batched_inputs)
        kept = _foreground_first(heads, sampled)
        instances = [x[:k] for x, k in zip(sampled, kept, strict=True)]
        boxes = [x.proposal_boxes for x in instances]
        parts.append((boxes, instances, student.run_roi_head(boxes)))
    shared = [
        _collate(heads.num_classes, boxes, instances, outputs, teacher.run_roi_head(boxes))
        for boxes, instances, outputs in parts
    ]
    return shared[0] if len(shared) == 1 else _concatenate(*shared)


def _foreground_first(heads: nn.Module, sampled: Sequence[Instances]) -> list[int]:
    """How many leading proposals of each image hold all of its foreground."""
    stock = type(heads)._sample_proposals is ROIHeads._sample_proposals
    if not stock:  # a sampler of the user's may order its samples otherwise
        return [len(x) for x in sampled]
    most = int(heads.batch_size_per_image * heads.positive_fraction)
    return [min(most, len(x)) for x in sampled]


def _flat_index(sampled: Sequence[Instances], kept: Sequence[int], like: dict) -> Tensor:
    """Rows of the kept proposals among those of the whole batch."""
    counts = torch.tensor([len(x) for x in sampled])
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, torch.tensor(kept))
    index = starts + torch.cat([torch.arange(k) for k in kept])
    return index.to(next(iter(like.values())).device, non_blocking=True)


def _sample(
    heads: nn.Module, proposals: list[Instances], inputs: Sequence[dict]
) -> list[Instances]:
    """Samples and labels proposals as the student's ROI head does, without its log entries."""
    targets = [x["instances"].to(proposals[0].proposal_boxes.device) for x in inputs]
    with torch.no_grad(), EventStorage():
        return heads.label_and_sample_proposals(proposals, targets)


def _collate(
    num_classes: int,
    boxes: Sequence[Boxes],
    instances: Sequence[Instances],
    student: RoiOutputs,
    teacher: RoiOutputs,
) -> SharedProposals:
    """Puts the proposals of all images into one table."""
    classes = torch.cat([x.gt_classes for x in instances])
    gt_boxes = torch.cat(
        [
            x.gt_boxes.tensor if x.has("gt_boxes") else torch.zeros_like(b.tensor)
            for x, b in zip(instances, boxes, strict=True)
        ]
    )
    counts = torch.tensor([len(x) for x in boxes])
    image_index = torch.repeat_interleave(torch.arange(len(boxes)), counts)
    return SharedProposals(
        boxes=torch.cat([x.tensor for x in boxes]),
        image_index=image_index.to(classes.device, non_blocking=True),
        classes=classes,
        gt_boxes=gt_boxes,
        foreground=(classes >= 0) & (classes < num_classes),
        student=student,
        teacher=teacher,
    )


def _concatenate(first: SharedProposals, second: SharedProposals) -> SharedProposals:
    """Two tables one below the other."""

    def outputs(a: RoiOutputs, b: RoiOutputs) -> RoiOutputs:
        return RoiOutputs(
            torch.cat([a.scores, b.scores]), torch.cat([a.deltas, b.deltas]), a.box_transform
        )

    def both(name: str) -> Tensor:
        return torch.cat([getattr(first, name), getattr(second, name)])

    return SharedProposals(
        boxes=both("boxes"),
        image_index=both("image_index"),
        classes=both("classes"),
        gt_boxes=both("gt_boxes"),
        foreground=both("foreground"),
        student=outputs(first.student, second.student),
        teacher=outputs(first.teacher, second.teacher),
    )

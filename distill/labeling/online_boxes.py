"""The teacher's detections as boxes of unlabeled images, found batch by batch in training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from distill.views.classes import (
    class_names,
    map_classes,
    num_classes,
    student_classes,
    teacher_class_names,
)
from distill.views.student import provided_signals
from distill.views.teacher import FrozenTeacher, TeacherSignals

__all__ = ["LabeledBatch", "OnlinePseudoBoxes", "build_online_pseudo_boxes"]

# Iterations with unlabeled images, but without a single box, after which the log says so.
_PATIENCE = 100
# A side at least this long, in pixels, as Detectron2 asks of annotations.
_MIN_SIDE = 1e-5


@dataclass(frozen=True)
class LabeledBatch:
    """A batch whose every image can be trained on.

    Attributes:
        inputs: the images, in Detectron2's format.
        teacher: the teacher's signals of them.
        usable: False where no image was left and one stands in: its losses must not count.
    """

    inputs: list[dict[str, Any]]
    teacher: TeacherSignals
    usable: bool = True


class OnlinePseudoBoxes:
    """Gives the images flagged by "pseudo" the teacher's detections, or leaves them out.

    Attributes:
        score_threshold: above which a detection becomes a box.
        student_class: (K_T,) the student's class of each of the teacher's, -1 where it has none;
            None for equal classes.
    """

    def __init__(self, *, score_threshold: float = 0.5, student_class: Tensor | None = None):
        """Notes what becomes a box.

        Args:
            score_threshold: see the class.
            student_class: see the class.
        """
        self.score_threshold = score_threshold
        self.student_class = student_class
        self._images = self._boxes = self._skipped = self._fruitless = 0

    def label(self, inputs: Sequence[dict[str, Any]], teacher: TeacherSignals) -> LabeledBatch:
        """Labels a batch; boxes are in pixels of the network's input, in host memory.

        Args:
            inputs: the batch, in Detectron2's format.
            teacher: the teacher's signals of it. Backbone and dense head are not run again.

        Returns:
            The images that have boxes, and those that are not flagged. Where none is left, the
            first image with one box all over it, so that losses and gradients have their names.
        """
        flagged = [number for number, x in enumerate(inputs) if x.get("pseudo")]
        if not flagged:
            return LabeledBatch(list(inputs), teacher)
        found = dict(zip(flagged, self._boxes_of(teacher.detections(flagged)), strict=True))
        self._count([len(x) for x in found.values()])
        kept = [i for i in range(len(inputs)) if i not in found or len(found[i])]
        if not kept:
            stand_in = {**inputs[0], "instances": _whole_image(found[0].image_size)}
            return LabeledBatch([stand_in], teacher.select([0]), usable=False)
        labeled = [{**inputs[i], "instances": found[i]} if i in found else inputs[i] for i in kept]
        return LabeledBatch(labeled, teacher.select(kept))

    def summary(self) -> dict[str, float]:
        """Boxes an unlabeled image and images left out, of this rank, since the last call.

        Empty if there was no unlabeled image.
        """
        if not self._images:
            return {}
        result = {
            "pseudo/boxes_per_image": self._boxes / self._images,
            "pseudo/skipped_images": float(self._skipped),
        }
        self._images = self._boxes = self._skipped = 0
        return result

    def _boxes_of(self, detections: Sequence[Instances]) -> list[Instances]:
        """Detections as annotations, cut at the image's borders."""
        rows = [
            torch.cat(
                [x.pred_boxes.tensor.float(), x.scores.float()[:, None], x.pred_classes[:, None]], 1
            )
            for x in detections
        ]
        # One transfer: how many boxes there are decides which images are left.
        table = torch.cat(rows).cpu().split([len(x) for x in rows])
        return [self._annotate(x, y.image_size) for x, y in zip(table, detections, strict=True)]

    def _annotate(self, rows: Tensor, image_size: tuple[int, int]) -> Instances:
        """Annotations of one image of (B, 6) corners, score and class."""
        boxes, classes = Boxes(rows[:, :4]), rows[:, 5].long()
        boxes.clip(image_size)
        if self.student_class is not None:
            classes = self.student_class[classes]
        kept = (rows[:, 4] > self.score_threshold) & (classes >= 0) & boxes.nonempty(_MIN_SIDE)
        return Instances(image_size, gt_boxes=boxes[kept], gt_classes=classes[kept])

    def _count(self, boxes: Sequence[int]) -> None:
        self._images += len(boxes)
        self._boxes += sum(boxes)
        self._skipped += sum(number == 0 for number in boxes)
        self._fruitless = 0 if any(boxes) else self._fruitless + 1
        if self._fruitless == _PATIENCE:
            logging.getLogger(__name__).warning(
                "For %d iterations the teacher has found nothing above %g in unlabeled images: "
                "lower DISTILL.UNLABELED.SCORE_THRESHOLD.",
                _PATIENCE,
                self.score_threshold,
            )


def build_online_pseudo_boxes(
    cfg: CfgNode, student: nn.Module, teacher: FrozenTeacher
) -> OnlinePseudoBoxes | None:
    """What DATASETS.UNLABELED and DISTILL.UNLABELED ask for; None if not for boxes online.

    Args:
        cfg: the student's config.
        student: the student.
        teacher: the teacher, with its own config.

    Raises:
        ValueError: one sentence, if the teacher lacks a class, or is no detector that can be run
            from its features.
    """
    node = cfg.DISTILL.UNLABELED
    if not cfg.DATASETS.UNLABELED or node.BOXES != "online":
        return None
    if not provided_signals(teacher.model) & {"dense", "proposals"}:
        raise ValueError(
            f"DISTILL.UNLABELED.BOXES online needs a dense or two-stage teacher, which "
            f"{type(teacher.model).__name__} is not: set it to cached"
        )
    count = num_classes(teacher.model)
    names = teacher_class_names(cfg, teacher.cfg, count)
    columns = map_classes(class_names(cfg), names, num_classes(student), count)
    return OnlinePseudoBoxes(
        score_threshold=node.SCORE_THRESHOLD, student_class=student_classes(columns, count)
    )


def _whole_image(image_size: tuple[int, int]) -> Instances:
    height, width = image_size
    boxes = Boxes(torch.tensor([[0.0, 0.0, width, height]]))
    return Instances(image_size, gt_boxes=boxes, gt_classes=torch.zeros(1, dtype=torch.int64))

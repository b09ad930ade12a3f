"""Cross-task-consistent distillation of dense detectors (BCKD), arXiv 2308.14286.

Classification is distilled as independent binary maps, weighted by how far the detectors are
apart; localization as the overlap of the decoded boxes, whatever predicts them. The form follows
the published code. On the ROI head of a two-stage detector it is an extension of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from distill.losses import (
    binary_class_logits,
    binary_consistency_sums,
    iou_localization,
    largest_discrepancy,
)
from distill.methods.base import METHODS, MethodOutput
from distill.methods.dense import DenseMethod
from distill.methods.pictures import draw_dense_discrepancy
from distill.methods.schedule import Schedule, schedule_keys
from distill.utils.config_keys import limit
from distill.utils.distributed import mean_over_devices
from distill.utils.key_limits import number, one_of
from distill.views.dense_pairs import count_positives
from distill.views.roi import RoiOutputs
from distill.views.sharing import SharedProposals, share_proposals
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["BCKD"]


@dataclass(frozen=True)
class _Part:
    """R rows to compare: (R, K) logits, (R, 4) boxes, (R,) bool; the boxes only if needed."""

    logits: tuple[Tensor, Tensor]
    boxes: tuple[Tensor, Tensor] | None
    valid: Tensor
    positive: Tensor


@METHODS.register()
class BCKD(DenseMethod):
    """Binary classification consistency and IoU-based localization distillation."""

    name = "BCKD"

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Adds the keys of DISTILL.BCKD with their defaults."""
        # Factor of the classification term; 0 switches it off.
        node.CLS_WEIGHT = 1.0
        # Factor of the localization term; 0 switches it off.
        node.LOC_WEIGHT = 4.0
        # Overlap of the boxes: giou, or iou.
        node.IOU_TYPE = "giou"
        # Exponent of the difference of probabilities that weighs both terms.
        node.WEIGHT_EXPONENT = 1.0
        # Leave out the levels on which a batch has no positive anchor, as the published code does.
        node.SKIP_EMPTY_LEVELS = False
        # "dense" for the head of a one-stage detector, "roi" for the ROI head of a two-stage one.
        node.HEAD = "dense"
        # Factor of both terms over training.
        node.SCHEDULE = schedule_keys("constant")
        limit(
            node,
            CLS_WEIGHT=number(at_least=0),
            LOC_WEIGHT=number(at_least=0),
            IOU_TYPE=one_of("giou", "iou"),
            WEIGHT_EXPONENT=number(above=0),
            HEAD=one_of("dense", "roi"),
        )

    @configurable
    def __init__(
        self,
        *,
        schedule: Schedule,
        cls_weight: float,
        loc_weight: float,
        iou_type: str,
        weight_exponent: float,
        skip_empty_levels: bool,
        head: str,
        mask_padding: bool,
    ) -> None:
        """Checks the values, which `add_keys` describes, and DISTILL.DENSE.MASK_PADDING.

        Raises:
            ValueError: one sentence that names the key, if a value is not allowed.
        """
        super().__init__(schedule, mask_padding=mask_padding, head=head)
        self.weights = {"cls": cls_weight, "loc": loc_weight}
        self.iou_type = iou_type
        self.weight_exponent = weight_exponent
        self.skip_empty_levels = skip_empty_levels

    @property
    def compares_classes(self) -> bool:
        """The probabilities of the classes are compared."""
        return True

    @property
    def remedy(self) -> str:
        """Which key chooses the head."""
        return 'set DISTILL.BCKD.HEAD to "dense" for one-stage detectors, "roi" for two-stage ones'

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """The terms that are on, the number of positives, and a picture of the disagreement."""
        if self.head == "roi":
            shared = share_proposals(student, teacher)
            parts = iter([self._roi_part(shared)])
            positives = mean_over_devices(shared.foreground.sum())
        else:
            parts = self._dense_parts(student, teacher)
            positives = count_positives(student)
        terms: dict[str, list[Tensor]] = {name: [] for name, x in self.weights.items() if x}
        for part in parts:
            for name, term in self._compare(part, positives).items():
                terms[name].append(term)
        losses = {
            f"loss_bckd_{name}": self.weights[name] * torch.stack(x).sum()
            for name, x in terms.items()
        }
        output = MethodOutput(losses, {"bckd/num_positives": positives})
        if self.head == "dense":
            output.picture = lambda: draw_dense_discrepancy(student, teacher)
        return output

    def _compare(self, part: _Part, positives: Tensor) -> dict[str, Tensor]:
        """The terms of one level or of all proposals, without their weights."""
        terms: dict[str, Tensor] = {}
        if self.weights["cls"]:
            total, discrepancy = binary_consistency_sums(
                *part.logits, part.valid, weight_exponent=self.weight_exponent
            )
            terms["cls"] = total / positives
        else:
            discrepancy = largest_discrepancy(*part.logits)
        if part.boxes is not None:
            terms["loc"] = iou_localization(
                *part.boxes,
                None,
                None,
                part.valid,
                positives,
                iou_type=self.iou_type,
                weight_exponent=self.weight_exponent,
                discrepancy=discrepancy,
            )
        if self.skip_empty_levels:
            found = part.positive.any()
            terms = {name: torch.where(found, term, 0.0) for name, term in terms.items()}
        return terms

    def _dense_parts(self, student: StudentSignals, teacher: TeacherSignals) -> Iterator[_Part]:
        """One level after the other."""
        for pair in self.pair_levels(student, teacher):
            boxes = None
            if self.weights["loc"]:
                boxes = tuple(x.boxes().flatten(0, 1) for x in (pair.student, pair.teacher))
            yield _Part(
                tuple(x.logits.flatten(0, 1) for x in (pair.student, pair.teacher)),
                boxes,
                pair.valid.flatten(),
                pair.positive.flatten(),
            )

    def _roi_part(self, shared: SharedProposals) -> _Part:
        """The student's sampled proposals, under both ROI heads."""
        logits = tuple(binary_class_logits(x.scores) for x in (shared.student, shared.teacher))
        boxes = None
        if self.weights["loc"]:
            # The box of the object's class; on the background of the teacher's likeliest one.
            likely = shared.teacher.scores[:, :-1].argmax(1)
            classes = torch.where(shared.foreground, shared.classes, likely)
            boxes = tuple(
                _decode(x, classes, shared.boxes) for x in (shared.student, shared.teacher)
            )
        return _Part(logits, boxes, shared.classes >= 0, shared.foreground)


def _decode(outputs: RoiOutputs, classes: Tensor, proposals: Tensor) -> Tensor:
    """(P, 4) boxes of given classes (P,) from the proposals (P, 4)."""
    deltas = outputs.class_deltas(classes).float()
    return outputs.box_transform.apply_deltas(deltas, proposals)

"""Task-adaptive regularization for distilling object detectors (TADF), arXiv 2006.13108.

Neck, classification and box knowledge are borrowed where the teacher does better, with a penalty
that decays. The sharing of the student's proposals, the Gaussian masks and the box gate follow
second-hand accounts; weights, normalizers and the options are partly choices of ours, which the
README of the project of that name lists.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from distill.losses import (
    foreground_classification,
    gated_box_regression,
    gaussian_box_masks,
    masked_imitation,
)
from distill.methods.adapters import ADAPTERS, build_adapters, near_zero
from distill.methods.base import METHODS, MethodOutput
from distill.methods.neck import MapPair, NeckContext, NeckMethod
from distill.methods.pictures import draw_proposals
from distill.methods.schedule import Schedule, schedule_keys
from distill.ops.boxes import aligned_overlap
from distill.utils.config_keys import limit
from distill.utils.key_limits import number, one_of, whole
from distill.views.levels import Level
from distill.views.roi import RoiOutputs
from distill.views.sharing import SharedProposals, share_proposals
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["TADF"]


@METHODS.register()
class TADF(NeckMethod):
    """Neck imitation under Gaussian masks, foreground scores and gated boxes, all decaying."""

    name = "TADF"
    mean_over_levels = True

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Adds the keys of DISTILL.TADF with their defaults."""
        # Factor of the neck term; 0 switches it off.
        node.NECK_WEIGHT = 3.0
        # Factor of the classification term; 0 switches it off.
        node.CLS_WEIGHT = 20.0
        # Factor of the box term; 0 switches it off. Without classification and boxes the ROI heads
        # are not needed.
        node.REG_WEIGHT = 1.0
        # Whose proposals both ROI heads see: student, teacher or both.
        node.SHARE = "student"
        # Neck: a box is imitated on the one level that its area assigns it to ("area"), or on
        # "all" levels.
        node.LEVEL_ASSIGNMENT = "area"
        # Neck, "area": square root of the box area, in pixels, that belongs on the stride-16 level.
        node.CANONICAL_BOX_SIZE = 224
        # Neck: how the student's channels reach the teacher's: conv3x3, conv1x1 or none.
        node.ADAPTER = "conv3x3"
        # Classification: binary cross-entropy of the softmax scores ("bce"), or "kl".
        node.CLS_LOSS = "bce"
        # Classification is borrowed on foreground proposals ("fg"), where the teacher's arg max is
        # the label ("correct"), or where it gives the label more probability than the student
        # ("better").
        node.CLS_GATE = "fg"
        # Boxes are borrowed where the teacher's box has a higher IoU with the ground truth than the
        # proposal ("proposal"), than the student's own box ("student"), or always ("none").
        node.REG_GATE = "proposal"
        # Factor of all terms over training.
        node.SCHEDULE = schedule_keys("linear")
        limit(
            node,
            NECK_WEIGHT=number(at_least=0),
            CLS_WEIGHT=number(at_least=0),
            REG_WEIGHT=number(at_least=0),
            SHARE=one_of("student", "teacher", "both"),
            LEVEL_ASSIGNMENT=one_of("area", "all"),
            CANONICAL_BOX_SIZE=whole(at_least=1),
            ADAPTER=one_of(*ADAPTERS),
            CLS_LOSS=one_of("bce", "kl"),
            CLS_GATE=one_of("fg", "correct", "better"),
            REG_GATE=one_of("proposal", "student", "none"),
        )

    @configurable
    def __init__(
        self,
        *,
        matched: Sequence[Level],
        schedule: Schedule,
        neck_weight: float,
        cls_weight: float,
        reg_weight: float,
        share: str,
        level_assignment: str,
        canonical_box_size: int,
        adapter: str,
        cls_loss: str,
        cls_gate: str,
        reg_gate: str,
    ) -> None:
        """Checks the values, which `add_keys` describes, and builds the adapters.

        Raises:
            ValueError: one sentence that names the key, if a choice is unknown.
        """
        adapters = nn.ModuleDict()
        if neck_weight:
            adapters = build_adapters(
                adapter, matched, "DISTILL.TADF.ADAPTER", near_zero, always=True
            )
        super().__init__(schedule, matched, adapters, neck_weight)
        self.weights = {"neck": neck_weight, "cls": cls_weight, "box": reg_weight}
        self.share = share
        self.canonical_box_size = canonical_box_size if level_assignment == "area" else None
        self.cls_loss, self.cls_gate, self.reg_gate = cls_loss, cls_gate, reg_gate

    @property
    def _uses_proposals(self) -> bool:
        return bool(self.weights["cls"] or self.weights["box"])

    @property
    def requires(self) -> frozenset[str]:
        """Signals of both detectors, for the terms that are on."""
        return frozenset({"features"} | ({"roi"} if self._uses_proposals else set()))

    @property
    def teacher_requires(self) -> frozenset[str]:
        """The same, and proposals where the teacher's are shared."""
        own = {"rpn_proposals"} if self._uses_proposals and self.share != "student" else set()
        return self.requires | own

    @property
    def compares_classes(self) -> bool:
        """Its scores, and the boxes of its classes, are compared unless both terms are off."""
        return self._uses_proposals

    @property
    def remedy(self) -> str:
        """Which keys leave the terms that a detector without ROI head can follow."""
        return "set DISTILL.TADF.CLS_WEIGHT and DISTILL.TADF.REG_WEIGHT to 0 for the neck term only"

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """The terms that are on, the mean of each gate, and a picture of them."""
        losses: dict[str, Tensor] = {}
        diagnostics: dict[str, Tensor] = {}
        pairs: list[MapPair] = []
        proposals: SharedProposals | None = None
        gates: dict[str, Tensor] = {}
        if self.weights["neck"]:
            pairs = self.pair_maps(student, teacher)
            losses["loss_tadf_neck"] = self.compare(pairs)
            diagnostics.update(self.notes_of(pairs))
        if self._uses_proposals:
            proposals = share_proposals(student, teacher, self.share)
            foreground = proposals.foreground
            count = foreground.sum()
            diagnostics["tadf/num_foreground"] = count
            if self.weights["cls"]:
                gates["cls"] = foreground & self._classification_gate(proposals)
                losses["loss_tadf_cls"] = foreground_classification(
                    proposals.student.scores,
                    proposals.teacher.scores,
                    gate=gates["cls"],
                    num_foreground=count,
                    form=self.cls_loss,
                )
            if self.weights["box"]:
                student_deltas, teacher_deltas = _comparable_deltas(proposals)
                gates["box"] = foreground & self._box_gate(proposals)
                losses["loss_tadf_box"] = gated_box_regression(
                    student_deltas, teacher_deltas, gates["box"], count
                )
            for name, gate in gates.items():
                diagnostics[f"tadf/gate_{name}"] = gate.sum() / count.clamp(min=1)
        losses = {key: x * self.weights[key.rsplit("_", 1)[1]] for key, x in losses.items()}

        def picture() -> np.ndarray:
            mask = self._mask(pairs[0].context)[0, 0] if pairs else None
            return draw_proposals(
                student.batched_inputs[0], mask, self.levels[0].stride, proposals, gates
            )

        return MethodOutput(losses, diagnostics, picture)

    def feature_loss(self, student: Tensor, teacher: Tensor, context: NeckContext) -> Tensor:
        """The neck term of one level, under the masks of the objects that belong on it."""
        mask = self._mask(context)
        context.note("mask_mean", mask.mean())
        return masked_imitation(student, teacher, mask)

    def _mask(self, context: NeckContext) -> Tensor:
        """(N, 1, H, W) mask of a level."""
        truth = context.objects(self.canonical_box_size)
        return gaussian_box_masks(truth.boxes, truth.valid, context.size, context.level.stride)

    def _classification_gate(self, proposals: SharedProposals) -> Tensor:
        """(P,) bool: where the teacher's scores are borrowed, among the foreground."""
        if self.cls_gate == "fg":
            return torch.ones_like(proposals.foreground)
        labels = proposals.classes.clamp(min=0)
        if self.cls_gate == "correct":
            return proposals.teacher.scores.argmax(1) == labels

        def confidence(outputs: RoiOutputs) -> Tensor:
            return outputs.scores.detach().float().softmax(1).gather(1, labels[:, None])[:, 0]

        return confidence(proposals.teacher) > confidence(proposals.student)

    def _box_gate(self, proposals: SharedProposals) -> Tensor:
        """(P,) bool: where the teacher's box is borrowed, among the foreground."""
        if self.reg_gate == "none":
            return torch.ones_like(proposals.foreground)

        def quality(boxes: Tensor) -> Tensor:
            return aligned_overlap(boxes, proposals.gt_boxes, "iou")

        def decoded(outputs: RoiOutputs) -> Tensor:
            deltas = outputs.class_deltas(_box_class(proposals)).detach().float()
            return outputs.box_transform.apply_deltas(deltas, proposals.boxes)

        rival = proposals.boxes if self.reg_gate == "proposal" else decoded(proposals.student)
        return quality(decoded(proposals.teacher)) > quality(rival)


def _box_class(proposals: SharedProposals) -> Tensor:
    """(P,) class whose deltas are compared; any, 0 here, off the foreground."""
    return torch.where(proposals.foreground, proposals.classes, 0)


def _comparable_deltas(proposals: SharedProposals) -> tuple[Tensor, Tensor]:
    """The true class's deltas (P, 4) of both, the teacher's in the student's parametrization.

    Deltas are proportional to their transform's weights, so a differing transform is a factor.
    """
    classes = _box_class(proposals)
    student, teacher = proposals.student, proposals.teacher
    deltas = teacher.class_deltas(classes)
    if student.box_transform.weights != teacher.box_transform.weights:
        ratio = [
            a / b
            for a, b in zip(
                student.box_transform.weights, teacher.box_transform.weights, strict=True
            )
        ]
        deltas = deltas * torch.tensor(ratio).to(deltas.device, non_blocking=True)
    return student.class_deltas(classes), deltas

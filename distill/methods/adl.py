"""Adaptive distillation of dense detectors (ADL, SAD), arXiv 1901.00366.

The student's class probabilities imitate the teacher's, the more so the harder a sample is to
imitate or the less sure the teacher is. Formulas and constants follow the published code ("code")
and a second-hand account of the paper ("paper"); the README of the project of that name lists which
is which.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from distill.losses import adaptive_distillation_sums
from distill.methods.base import METHODS, MethodOutput
from distill.methods.dense import DenseMethod
from distill.methods.pictures import draw_dense_discrepancy
from distill.methods.schedule import Schedule, schedule_keys
from distill.utils.config_keys import limit
from distill.utils.key_limits import number, one_of
from distill.views.dense_pairs import count_positives
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["ADL"]


@METHODS.register()
class ADL(DenseMethod):
    """Adaptive distillation of class probabilities; it reads no label but the ignored ones."""

    name = "ADL"

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Adds the keys of DISTILL.ADL with their defaults."""
        # Factor of the loss.
        node.WEIGHT = 1.0
        # What the adaptive weight multiplies: half of the cross-entropy ("code"), or the divergence
        # ("paper").
        node.FORM = "code"
        # Exponent of the adaptive weight (1 - exp(-(KL + BETA * H))) ** GAMMA.
        node.GAMMA = 2.0
        # Factor of the teacher's entropy H in it.
        node.BETA = 1.0
        # Exponent of the teacher's probability q in the normalizer, the sum of q ** THETA.
        node.THETA = 1.8
        # "teacher" for that normalizer, or the number of the student's "positives".
        node.NORMALIZER = "teacher"
        # "dense" for the head of a one-stage detector, "rpn" for the RPN of a two-stage one.
        node.HEAD = "dense"
        # Factor of the loss over training.
        node.SCHEDULE = schedule_keys("constant")
        limit(
            node,
            WEIGHT=number(at_least=0),
            FORM=one_of("code", "paper"),
            GAMMA=number(at_least=0),
            BETA=number(at_least=0),
            THETA=number(at_least=0),
            NORMALIZER=one_of("teacher", "positives"),
            HEAD=one_of("dense", "rpn"),
        )

    @configurable
    def __init__(
        self,
        *,
        schedule: Schedule,
        weight: float,
        form: str,
        gamma: float,
        beta: float,
        theta: float,
        normalizer: str,
        head: str,
        mask_padding: bool,
    ) -> None:
        """Checks the values, which `add_keys` describes, and DISTILL.DENSE.MASK_PADDING.

        Raises:
            ValueError: one sentence that names the key, if a value is not allowed.
        """
        super().__init__(schedule, mask_padding=mask_padding, head=head)
        if head == "rpn" and normalizer == "positives":
            raise ValueError(
                'DISTILL.ADL.NORMALIZER is "positives", which an RPN samples at random; set it to '
                '"teacher" where DISTILL.ADL.HEAD is "rpn"'
            )
        self.weight = weight
        self.constants = {"gamma": gamma, "beta": beta, "theta": theta, "form": form}
        self.normalizer = normalizer

    @property
    def compares_classes(self) -> bool:
        """The probabilities of the classes are; those of an RPN have none."""
        return self.head == "dense"

    @property
    def remedy(self) -> str:
        """Which key chooses the head."""
        return 'set DISTILL.ADL.HEAD to "dense" for one-stage detectors, "rpn" for two-stage ones'

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """The loss, its normalizer, and a picture of where the detectors disagree."""
        sums: list[tuple[Tensor, Tensor]] = []
        for pair in self.pair_levels(student, teacher):
            sums.append(
                adaptive_distillation_sums(
                    pair.student.logits.flatten(0, 1),
                    pair.teacher.logits.flatten(0, 1),
                    pair.valid.flatten(),
                    **self.constants,
                )
            )
        total, normalizer = (torch.stack(x).sum() for x in zip(*sums, strict=True))
        if self.normalizer == "positives":
            normalizer = count_positives(student)
        loss = self.weight * total / normalizer.clamp(min=1)
        return MethodOutput(
            {"loss_adl": loss},
            {"adl/normalizer": normalizer},
            lambda: draw_dense_discrepancy(student, teacher, self.head),
        )

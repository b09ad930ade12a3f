"""Localization distillation (LD), arXiv 2102.12252, for detectors that predict distributions.

The distributions over the distance to each side of a box imitate the teacher's, at the positive
anchors and in the valuable region around them. Weights and normalizers follow the published code.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from distill.losses import distribution_distillation
from distill.methods.base import METHODS, MethodOutput
from distill.methods.dense import DenseMethod
from distill.methods.schedule import Schedule, schedule_keys
from distill.utils.config_keys import limit
from distill.utils.key_limits import number
from distill.views.dense_pairs import LevelPair
from distill.views.proposals import anchor_levels
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["LD"]

# The published code divides the loss by 4 sides on positives, by 16 in the valuable region, where
# anchors are weighted by their IoU with an object.
_VALUABLE_SHARE = 4 / 16


@METHODS.register()
class LD(DenseMethod):
    """Divergence of the box distributions of two GFL detectors."""

    name = "LD"

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Adds the keys of DISTILL.LD with their defaults."""
        # Factor on positive anchors.
        node.WEIGHT = 0.25
        # Factor in the valuable region around them; 0 switches this term off.
        node.VALUABLE_WEIGHT = 0.25
        # Temperature of the softmax over the bins.
        node.TEMPERATURE = 10.0
        # Factor of both terms over training.
        node.SCHEDULE = schedule_keys("constant")
        limit(
            node,
            WEIGHT=number(at_least=0),
            VALUABLE_WEIGHT=number(at_least=0),
            TEMPERATURE=number(above=0),
        )

    @configurable
    def __init__(
        self,
        *,
        schedule: Schedule,
        weight: float,
        valuable_weight: float,
        temperature: float,
        mask_padding: bool,
    ) -> None:
        """Checks the values, which `add_keys` describes, and DISTILL.DENSE.MASK_PADDING.

        Raises:
            ValueError: if the temperature is not positive.
        """
        super().__init__(schedule, mask_padding=mask_padding)
        self.weight = weight
        self.valuable_weight = valuable_weight
        self.temperature = temperature

    @property
    def requires(self) -> frozenset[str]:
        """Dense heads that predict distributions."""
        return super().requires | {"distribution"}

    @property
    def remedy(self) -> str:
        """What compares boxes that are no distributions."""
        return "use BCKD, which compares decoded boxes, instead of LD in DISTILL.METHODS"

    def check_pair(self, student: nn.Module, teacher: nn.Module) -> None:
        """Refuses grids that differ, and distributions over different bins.

        Raises:
            ValueError: one sentence that names the key.
        """
        super().check_pair(student, teacher)
        if student.num_bins != teacher.num_bins:
            raise ValueError(
                "LD compares distributions bin by bin, but MODEL.GFL.REG_MAX is "
                f"{student.num_bins - 1} for the student and {teacher.num_bins - 1} for the "
                "teacher; set them alike"
            )

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """The terms that are on."""
        terms: dict[str, list[Tensor]] = {"loss_ld": []}
        valuable = None
        if self.valuable_weight:
            terms["loss_ld_valuable"] = []
            valuable = _valuable_region(student)
        for pair in self.pair_levels(student, teacher):
            best = pair.student.logits.detach().float().sigmoid().amax(-1)
            terms["loss_ld"].append(self.weight * self._compare(pair, best * pair.positive))
            if valuable is not None:
                weight = self.valuable_weight * _VALUABLE_SHARE
                term = self._compare(pair, pair.select(valuable))
                terms["loss_ld_valuable"].append(weight * term)
        return MethodOutput({name: torch.stack(x).sum() for name, x in terms.items()})

    def _compare(self, pair: LevelPair, weight: Tensor) -> Tensor:
        """The divergence on a level, its (N, R) anchors weighted."""
        return distribution_distillation(
            pair.student.deltas.flatten(0, 1),
            pair.teacher.deltas.flatten(0, 1),
            (weight * pair.valid).flatten(),
            bins=pair.student.head.num_bins,
            temperature=self.temperature,
        )


def _valuable_region(student: StudentSignals) -> Tensor:
    """(N, R) weights over all of the student's anchors."""
    anchors = list(anchor_levels(student.model, student.features).values())
    device = student.model.device
    instances = [x["instances"].to(device) for x in student.batched_inputs]
    return student.model.valuable_region(anchors, instances)

"""Information-discrepancy-aware distillation of 1-bit detectors (IDa-Det), arXiv 2210.03477.

Teacher and student propose proposals; where their necks disagree most about a proposal, the student
imitates the teacher's features under an entropy loss. Which of the formulas and constants are the
paper's, which its code's and which ours is listed in projects/IDaDet/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from distill.losses import (
    cosine_imitation,
    entropy_imitation,
    inner_product_imitation,
    squared_imitation,
)
from distill.methods.adapters import build_adapters
from distill.methods.base import METHODS, Method, MethodOutput, check_choices
from distill.methods.ida_det.selector import ProposalSelector, SelectedProposals
from distill.methods.pictures import draw_discrepancy
from distill.methods.schedule import Schedule, schedule_keys
from distill.ops.box_masks import anchor_overlap_masks, box_union_mask
from distill.views.levels import Level, common_region
from distill.views.proposals import anchor_levels
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["IDaDet"]

_CHOICES = {
    "LOSS": ("entropy", "l2", "cosine", "inner_product"),
    "SUPPORT": ("crops", "mask"),
    "COMPARE": ("auto", "raw", "adapted"),
}
_LOSSES = {
    "l2": squared_imitation,
    "cosine": cosine_imitation,
    "inner_product": inner_product_imitation,
}

# A level's student map in the teacher's channels, with gradient, and the teacher's map.
_Pair = tuple[Tensor, Tensor]


@METHODS.register()
class IDaDet(Method):
    """Imitation of the neck in the proposals of maximum information discrepancy."""

    name = "IDaDet"

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Adds the keys of DISTILL.IDaDet with their defaults."""
        # Factor of the loss.
        node.WEIGHT = 0.1
        # Which proposals are imitated: those of most "discrepancy" between the necks, of most
        # "objectness", at "random", or "all"; or which cells: those whose anchors fit the
        # "ground_truth" (as FGFI chooses them), or "everywhere" (a hint).
        node.SELECTION = "discrepancy"
        # Share of each image's proposals that is selected (gamma), in (0, 1].
        node.FRACTION = 0.6
        # entropy, l2, cosine or inner_product.
        node.LOSS = "entropy"
        # Entropy loss: factor of the logarithm of the variance.
        node.LOG_WEIGHT = 1e-3
        # Imitated are the proposals' "crops", or the cells under the "mask" of their union.
        node.SUPPORT = "crops"
        # Proposals are cropped from "every" level, from the one their area assigns them to ("assigned"),
        # or from the "finest", on which one-stage detectors are distilled.
        node.POOL_LEVELS = "every"
        # The discrepancy is that of the "raw" student map, or of the "adapted" one; "auto" takes the
        # raw one where student and teacher have equal channels.
        node.COMPARE = "auto"
        # Temperature of the softmax over a crop's positions.
        node.TEMPERATURE = 1.0
        # Bins along each side of a crop.
        node.RESOLUTION = 7
        # "assigned": square root of the box area, in pixels, that belongs on the stride-16 level.
        node.CANONICAL_BOX_SIZE = 224
        # How the student's channels reach the teacher's: conv3x3, conv1x1 or none.
        node.ADAPTER = "conv3x3"
        # Proposals an image of each detector, the most probable ones.
        node.TOPK = 300
        # Only proposals above this objectness, but always the best few of each detector, as it has none
        # early in training; 0 for no threshold.
        node.OBJECTNESS_THRESHOLD = 0.0
        node.FALLBACK_TOPK = 20
        # IoU of non-maximum suppression within each detector's proposals, then within both together; 0
        # for none.
        node.NMS_THRESHOLD = 0.0
        node.JOINT_NMS_THRESHOLD = 0.0
        node.SCHEDULE = schedule_keys("constant")

    @configurable
    def __init__(
        self,
        *,
        levels: tuple[Level, ...],
        schedule: Schedule,
        selector: ProposalSelector,
        weight: float = 0.1,
        loss: str = "entropy",
        log_weight: float = 1e-3,
        support: str = "crops",
        compare: str = "auto",
        adapter: str = "conv3x3",
    ) -> None:
        """Builds the adapters; every argument but the first three is a key of DISTILL.IDaDet.

        Args:
            levels: feature levels that student and teacher share.
            schedule: factor of the loss over training.
            selector: which proposals are imitated.
            weight: factor of the loss.
            loss: "entropy", "l2", "cosine" or "inner_product".
            log_weight: entropy loss: factor of the variance's logarithm.
            support: "crops" of the proposals, or the "mask" of their union.
            compare: discrepancy of the "raw" or the "adapted" student map, or "auto".
            adapter: "conv3x3", "conv1x1" or "none".

        Raises:
            ValueError: one sentence that names the key, if a value is unknown or does not fit.
        """
        super().__init__(schedule)
        given = {"LOSS": loss, "SUPPORT": support, "COMPARE": compare}
        check_choices("DISTILL.IDaDet", given, _CHOICES)
        self.levels = selector.used_levels(levels)
        self.selector = selector
        self.weight, self.loss, self.log_weight = weight, loss, log_weight
        self.support = support
        equal = all(x.student_channels == x.teacher_channels for x in self.levels)
        if compare == "raw" and not equal:
            raise ValueError(
                'DISTILL.IDaDet.COMPARE is "raw", but the channels of student and teacher differ; '
                "choose adapted or auto"
            )
        if selector.pool_levels == "assigned" and len({x.teacher_channels for x in levels}) > 1:
            raise ValueError(
                'DISTILL.IDaDet.POOL_LEVELS is "assigned", but the levels have different channels; '
                "choose every or finest, or name levels of equal channels in DISTILL.LEVELS"
            )
        self.compares_raw = compare == "raw" or (compare == "auto" and equal)
        self.adapters = build_adapters(adapter, self.levels, "DISTILL.IDaDet.ADAPTER")
        self.log_variance = nn.Parameter(torch.zeros(())) if loss == "entropy" else None

    @classmethod
    def from_config(cls, cfg: CfgNode, levels: tuple[Level, ...]) -> dict:
        """The arguments from DISTILL.IDaDet."""
        node = cfg.DISTILL.IDaDet
        own = ("WEIGHT", "LOSS", "LOG_WEIGHT", "SUPPORT", "COMPARE", "ADAPTER")
        return {
            "levels": levels,
            "schedule": Schedule.from_config(node.SCHEDULE, cfg.SOLVER.MAX_ITER),
            "selector": ProposalSelector.from_config(node),
            **{key.lower(): node[key] for key in own},
        }

    @property
    def requires(self) -> frozenset[str]:
        """Signals of the student; those with proposals have the anchors for ground_truth too."""
        everywhere = self.selector.selection == "everywhere"
        return frozenset({"features"} if everywhere else {"features", "proposals"})

    @property
    def teacher_requires(self) -> frozenset[str]:
        """Signals of the teacher: features, and proposals unless cells are selected."""
        return frozenset({"features"}) if self.selector.selects_cells else self.requires

    @property
    def remedy(self) -> str:
        """Which key leaves what any detector with a feature pyramid can follow."""
        return "set DISTILL.IDaDet.SELECTION to everywhere"

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """The loss on what is selected, what was selected in numbers, and a picture of it."""
        own = [student.features[x.student] for x in self.levels]
        target = [teacher.features[x.teacher] for x in self.levels]
        adapted = [self.adapters[x.student](y) for x, y in zip(self.levels, own, strict=True)]
        pairs = [common_region(*x) for x in zip(adapted, target, strict=True)]
        diagnostics: dict[str, Tensor] = {}
        picture = None
        if self.selector.selects_cells:
            loss = self._imitate_cells(pairs, self._cell_masks(student, pairs))
        else:
            compared = zip(own if self.compares_raw else adapted, target, strict=True)
            maps = [common_region(*x) for x in compared]
            selected = self.selector.select(student, teacher, maps, self.levels)
            loss = self._imitate_proposals(pairs, selected)
            diagnostics = self._describe(selected)

            def picture() -> np.ndarray:
                return _draw(student, teacher, selected)

        if self.log_variance is not None:
            diagnostics["idadet/log_variance"] = self.log_variance
        return MethodOutput({"loss_idadet": self.weight * loss}, diagnostics, picture)

    def _describe(self, selected: SelectedProposals) -> dict[str, Tensor]:
        """How many proposals an image there were, and by what they were selected."""
        name = f"idadet/{self.selector.selection}"
        mean, mean_selected = selected.means()
        images = len(selected.kept)
        return {
            "idadet/num_proposals": selected.proposals.valid.sum() / images,
            "idadet/num_selected": selected.kept.sum() / images,
            f"{name}_mean": mean,
            f"{name}_selected": mean_selected,
        }

    def _imitate_proposals(self, pairs: list[_Pair], selected: SelectedProposals) -> Tensor:
        """The loss on the selected proposals, mean over levels."""
        if not selected.boxes.shape[1]:
            return self._nothing(pairs)
        if self.support == "crops":
            return self._imitate_crops(pairs, selected)
        masks: list[Tensor | None] = [
            box_union_mask(selected.boxes, selected.on_level(i), mine.shape[-2:], level.stride)
            for i, ((mine, _), level) in enumerate(zip(pairs, self.levels, strict=True))
        ]
        return self._imitate_cells(pairs, masks)

    def _imitate_crops(self, pairs: list[_Pair], selected: SelectedProposals) -> Tensor:
        if self.loss in ("entropy", "l2"):
            # Pooling is linear: the crop of a difference is the difference of the crops.
            sides = [[x.float() - y.float() for x, y in pairs]]
        else:
            sides = list(zip(*pairs, strict=True))
        crops = (
            self.selector.pool(maps, self.levels, selected.boxes, selected.level) for maps in sides
        )
        weight = selected.kept.flatten()[:, None, None, None]
        terms = []
        for level in zip(*crops, strict=True):
            here = (x.flatten(0, 1).transpose(1, 2)[..., None] for x in level)
            terms.append(self._imitate(*here, weight=weight))
        return torch.stack(terms).mean()

    def _imitate_cells(self, pairs: list[_Pair], masks: Sequence[Tensor | None]) -> Tensor:
        """The loss on the cells of (N, 1, H, W) masks, or on all where a mask is None."""
        terms = [self._imitate(*pair, weight=mask) for pair, mask in zip(pairs, masks, strict=True)]
        return torch.stack(terms).mean()

    def _imitate(
        self, student: Tensor, teacher: Tensor | None = None, *, weight: Tensor | None
    ) -> Tensor:
        if self.log_variance is None:
            return _LOSSES[self.loss](student, teacher, weight=weight)
        return entropy_imitation(
            student, teacher, self.log_variance, log_weight=self.log_weight, weight=weight
        )

    def _cell_masks(self, student: StudentSignals, pairs: list[_Pair]) -> list[Tensor | None]:
        """The cells near objects by level, or None for every cell."""
        if self.selector.selection == "everywhere":
            return [None] * len(pairs)
        anchors = anchor_levels(student.model, student.features)
        used = [x.student for x in self.levels if x.student in anchors]
        sizes = [student.features[name].shape[-2:] for name in used]
        truth = student.ground_truth
        boxes = [anchors[name].tensor.float() for name in used]
        masks = anchor_overlap_masks(boxes, sizes, truth.boxes, truth.valid)
        by_level = dict(zip(used, masks, strict=True))
        result: list[Tensor | None] = []
        for level, (mine, _) in zip(self.levels, pairs, strict=True):
            mask = by_level.get(level.student)
            # A level without anchors has no cell near an object.
            mask = mine.new_zeros((1, 1, 1, 1)) if mask is None else mask
            result.append(mask[..., : mine.shape[-2], : mine.shape[-1]])
        return result

    def _nothing(self, pairs: list[_Pair]) -> Tensor:
        """A zero that reaches every parameter."""
        total = sum(x.float().sum() for x, _ in pairs)
        return 0 * (total if self.log_variance is None else total + self.log_variance)


def _draw(
    student: StudentSignals, teacher: TeacherSignals, selected: SelectedProposals
) -> np.ndarray:
    """A picture of the batch's first image."""
    valid = selected.proposals.valid[0]
    return draw_discrepancy(
        student.batched_inputs[0],
        selected.proposals.boxes[0][valid],
        selected.scores[0][valid],
        selected.boxes[0][selected.kept[0]],
        student.detect(0),
        teacher.detect(0),
    )

"""Information-discrepancy-aware distillation of 1-bit detectors (IDa-Det), arXiv 2210.03477.

Teacher and student propose boxes; in those about which their necks disagree most, the student
imitates the teacher's features under an entropy loss. Which of the formulas and constants are the
paper's, which its code's and which ours is listed in the README of the project of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from distill.methods.adapters import ADAPTERS, build_adapters, near_zero
from distill.methods.base import METHODS, MethodOutput
from distill.methods.ida_det.selector import SELECTIONS, ProposalSelector, SelectedProposals
from distill.methods.neck import MapPair, NeckContext, NeckMethod
from distill.methods.pictures import draw_discrepancy
from distill.methods.schedule import Schedule, schedule_keys
from distill.ops.box_masks import anchor_overlap_masks, box_union_mask
from distill.utils.config_keys import limit
from distill.utils.key_limits import number, one_of, whole
from distill.views.levels import Level, common_region
from distill.views.proposals import anchor_levels
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["IDaDet"]

_LOSSES = {
    "l2": squared_imitation,
    "cosine": cosine_imitation,
    "inner_product": inner_product_imitation,
}


@METHODS.register()
class IDaDet(NeckMethod):
    """Imitation of the neck in the proposals of maximum information discrepancy."""

    name = "IDaDet"
    mean_over_levels = True

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
        # Proposals are cropped from "every" level, from the one that their area assigns them to
        # ("assigned"), or from the "finest", on which one-stage detectors are distilled.
        node.POOL_LEVELS = "every"
        # The discrepancy is that of the "raw" student map, or of the "adapted" one; "auto" takes
        # the raw one where student and teacher have equal channels.
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
        # Only proposals above this objectness; 0 for no threshold.
        node.OBJECTNESS_THRESHOLD = 0.0
        # The best so many of each detector are taken all the same, as early in training none is
        # above it.
        node.FALLBACK_TOPK = 20
        # IoU of non-maximum suppression within each detector's proposals; 0 for none.
        node.NMS_THRESHOLD = 0.0
        # IoU of non-maximum suppression within both detectors' together, after that; 0 for none.
        node.JOINT_NMS_THRESHOLD = 0.0
        # Factor of the loss over training.
        node.SCHEDULE = schedule_keys("constant")
        limit(
            node,
            WEIGHT=number(at_least=0),
            SELECTION=one_of(*SELECTIONS),
            FRACTION=number(above=0, at_most=1),
            LOSS=one_of("entropy", *_LOSSES),
            LOG_WEIGHT=number(at_least=0),
            SUPPORT=one_of("crops", "mask"),
            POOL_LEVELS=one_of("every", "assigned", "finest"),
            COMPARE=one_of("auto", "raw", "adapted"),
            TEMPERATURE=number(above=0),
            RESOLUTION=whole(at_least=1),
            CANONICAL_BOX_SIZE=whole(at_least=1),
            ADAPTER=one_of(*ADAPTERS),
            TOPK=whole(at_least=1),
            OBJECTNESS_THRESHOLD=number(at_least=0, below=1),
            FALLBACK_TOPK=whole(at_least=0),
            NMS_THRESHOLD=number(at_least=0, at_most=1),
            JOINT_NMS_THRESHOLD=number(at_least=0, at_most=1),
        )

    @configurable
    def __init__(
        self,
        *,
        matched: Sequence[Level],
        schedule: Schedule,
        selector: ProposalSelector,
        weight: float,
        loss: str,
        log_weight: float,
        support: str,
        compare: str,
        adapter: str,
    ) -> None:
        """Checks the values, which `add_keys` describes, and builds the adapters.

        Raises:
            ValueError: one sentence that names the key, if a value is unknown or does not fit.
        """
        used = selector.used_levels(matched)
        equal = all(x.student_channels == x.teacher_channels for x in used)
        if compare == "raw" and not equal:
            raise ValueError(
                'DISTILL.IDaDet.COMPARE is "raw", but the channels of student and teacher differ; '
                "choose adapted or auto"
            )
        if selector.pool_levels == "assigned" and len({x.teacher_channels for x in matched}) > 1:
            raise ValueError(
                'DISTILL.IDaDet.POOL_LEVELS is "assigned", but the levels have different channels; '
                "choose every or finest, or name levels of equal channels in DISTILL.LEVELS"
            )
        # As in the authors' code, but for what exceeds two deviations, which they wrap around.
        adapters = build_adapters(adapter, used, "DISTILL.IDaDet.ADAPTER", near_zero, always=True)
        super().__init__(schedule, used, adapters, weight)
        self.selector = selector
        self.loss, self.log_weight = loss, log_weight
        self.support = support
        self.compares_raw = compare == "raw" or (compare == "auto" and equal)
        self.log_variance = nn.Parameter(torch.zeros(())) if loss == "entropy" else None

    @classmethod
    def from_config(cls, cfg: CfgNode, matched: Sequence[Level]) -> dict[str, Any]:
        """The keys of DISTILL.IDaDet, some of them as the selector, and the levels."""
        arguments = super().from_config(cfg, matched)
        fields = {name: arguments.pop(name) for name in ProposalSelector.__dataclass_fields__}
        return {"selector": ProposalSelector(**fields), **arguments}

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
        pairs = self.pair_maps(student, teacher)
        diagnostics: dict[str, Tensor] = {}
        picture = None
        if self.selector.selects_cells:
            loss = self.compare(pairs)
        else:
            selected = self._select(pairs)
            loss = self._imitate_proposals(pairs, selected)
            diagnostics = self._describe(selected)

            def picture() -> np.ndarray:
                return _draw(student, teacher, selected)

        if self.log_variance is not None:
            diagnostics["idadet/log_variance"] = self.log_variance
        return MethodOutput({"loss_idadet": self.weight * loss}, diagnostics, picture)

    def feature_loss(self, student: Tensor, teacher: Tensor, context: NeckContext) -> Tensor:
        """The loss on the cells of one level that are selected, and not proposals."""
        if self.selector.selection == "everywhere":
            return self._imitate(student, teacher, weight=None)
        masks = context.once("cells near objects", lambda: self._cells_near_objects(context))
        height, width = context.size
        mask = masks[context.level.student][..., :height, :width]
        return self._imitate(student, teacher, weight=mask)

    def _cells_near_objects(self, context: NeckContext) -> dict[str, Tensor]:
        """By the student's level, an (N, 1, H, W) mask of the cells whose anchors fit an object."""
        student, truth = context.student, context.objects()
        anchors = anchor_levels(student.model, student.features)
        used = [x.student for x in self.levels if x.student in anchors]
        sizes = [student.features[name].shape[-2:] for name in used]
        boxes = [anchors[name].tensor.float() for name in used]
        masks = anchor_overlap_masks(boxes, sizes, truth.boxes, truth.valid)
        # A level without anchors has no cell near an object.
        none = truth.boxes.new_zeros((1, 1, 1, 1))
        return {**{x.student: none for x in self.levels}, **dict(zip(used, masks, strict=True))}

    def _select(self, pairs: Sequence[MapPair]) -> SelectedProposals:
        """Selects by the maps that COMPARE says."""
        student, teacher = pairs[0].context.student, pairs[0].context.teacher
        maps = [(x.student, x.teacher) for x in pairs]
        if self.compares_raw:
            maps = [
                common_region(student.features[x.student], teacher.features[x.teacher])
                for x in self.levels
            ]
        return self.selector.select(student, teacher, maps, self.levels)

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

    def _imitate_proposals(self, pairs: Sequence[MapPair], selected: SelectedProposals) -> Tensor:
        """The loss on the selected proposals, mean over levels."""
        if not selected.boxes.shape[1]:
            return self._nothing(pairs)
        if self.support == "crops":
            return self._imitate_crops(pairs, selected)
        terms = []
        for x in pairs:
            kept = selected.on_level(x.context.index)
            mask = box_union_mask(selected.boxes, kept, x.context.size, x.context.level.stride)
            terms.append(self._imitate(x.student, x.teacher, weight=mask))
        return torch.stack(terms).mean()

    def _imitate_crops(self, pairs: Sequence[MapPair], selected: SelectedProposals) -> Tensor:
        sides = [[x.student for x in pairs], [x.teacher for x in pairs]]
        if self.loss in ("entropy", "l2"):
            # Pooling is linear: the crop of a difference is the difference of the crops.
            sides = [[x.float() - y.float() for x, y in zip(*sides, strict=True)]]
        crops = (
            self.selector.pool(maps, self.levels, selected.boxes, selected.level) for maps in sides
        )
        weight = selected.kept.flatten()[:, None, None, None]
        terms = []
        for level in zip(*crops, strict=True):
            here = (x.flatten(0, 1).transpose(1, 2)[..., None] for x in level)
            terms.append(self._imitate(*here, weight=weight))
        return torch.stack(terms).mean()

    def _imitate(
        self, student: Tensor, teacher: Tensor | None = None, *, weight: Tensor | None
    ) -> Tensor:
        if self.log_variance is None:
            return _LOSSES[self.loss](student, teacher, weight=weight)
        return entropy_imitation(
            student, teacher, self.log_variance, log_weight=self.log_weight, weight=weight
        )

    def _nothing(self, pairs: Sequence[MapPair]) -> Tensor:
        """A zero that reaches every parameter."""
        total = sum(x.student.float().sum() for x in pairs)
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

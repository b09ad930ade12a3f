"""Which proposals of a batch a student is distilled on.

Source: information-discrepancy-aware distillation (IDa-Det), arXiv 2210.03477. Both detectors
propose; those proposals are selected on which their feature maps disagree most. Objectness and
chance are there to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.methods.ida_det.discrepancy import relative_distance, softmax_distance
from distill.methods.ida_det.filtering import filter_proposals, join_proposals
from distill.methods.ida_det.selection import select_top
from distill.ops.roi_lookup import pool_boxes, pool_pairs
from distill.views.levels import Level, assign_levels
from distill.views.proposals import Proposals
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["SELECTIONS", "ProposalSelector", "SelectedProposals"]

# Four ways to choose proposals, and two to choose cells without any.
SELECTIONS = ("discrepancy", "random", "all", "objectness", "ground_truth", "everywhere")


@dataclass(frozen=True)
class SelectedProposals:
    """The proposals of a batch and those selected among them, padded.

    Attributes:
        proposals: P proposals an image.
        scores: (N, P) what they are selected by.
        index: (N, k) the selected proposals, the best first.
        kept: (N, k) bool, False beyond the number selected in an image.
        boxes: (N, k, 4) their corners in pixels.
        level: (N, k) index of each one's level, or None where every level counts.
    """

    proposals: Proposals
    scores: Tensor
    index: Tensor
    kept: Tensor
    boxes: Tensor
    level: Tensor | None

    def on_level(self, level: int) -> Tensor:
        """(N, k) bool, the kept ones that are imitated on a level, by its index."""
        return self.kept if self.level is None else self.kept & (self.level == level)

    def means(self) -> tuple[Tensor, Tensor]:
        """The mean score of all proposals and of the selected ones."""
        valid, kept = self.proposals.valid, self.kept
        chosen = self.scores.gather(1, self.index)
        return (
            (self.scores * valid).sum() / valid.sum().clamp(min=1),
            (chosen * kept).sum() / kept.sum().clamp(min=1),
        )


@dataclass(frozen=True)
class ProposalSelector:
    """Collects proposals, scores and selects them; the fields are keys of DISTILL.IDaDet.

    Attributes:
        selection: what is selected.
        fraction: gamma, the share of each image's proposals that is selected, in (0, 1].
        pool_levels: proposals are cropped from "every" level, the "assigned" or the "finest".
        temperature: of the spatial softmax.
        resolution: bins along each side of a crop.
        canonical_box_size: for "assigned", the box size in pixels of the stride-16 level.
        topk: proposals an image from each detector.
        objectness_threshold: least objectness of a proposal.
        fallback_topk: the best so many proposals of each detector are kept all the same.
        nms_threshold: IoU of non-maximum suppression within a detector's proposals; 0 for none.
        joint_nms_threshold: the same for both detectors' together.
    """

    selection: str
    fraction: float
    pool_levels: str
    temperature: float
    resolution: int
    canonical_box_size: int
    topk: int
    objectness_threshold: float
    fallback_topk: int
    nms_threshold: float
    joint_nms_threshold: float

    @property
    def selects_cells(self) -> bool:
        """Whether cells of the maps are selected, and no proposals."""
        return self.selection in ("ground_truth", "everywhere")

    def used_levels(self, levels: Sequence[Level]) -> Sequence[Level]:
        """Those of the levels that proposals are cropped from."""
        return levels[:1] if self.pool_levels == "finest" else levels

    def pool(
        self,
        maps: Sequence[Tensor],
        levels: Sequence[Level],
        boxes: Tensor,
        level: Tensor | None,
    ) -> Iterator[Tensor]:
        """The crops of boxes from maps of these levels, see `pool_boxes`."""
        return pool_boxes(maps, [x.stride for x in levels], boxes, level, self.resolution)

    @torch.no_grad()
    def select(
        self,
        student: StudentSignals,
        teacher: TeacherSignals,
        maps: Sequence[tuple[Tensor, Tensor]],
        levels: Sequence[Level],
    ) -> SelectedProposals:
        """Selects among the proposals of both detectors.

        Args:
            student: signals with "proposals".
            teacher: signals with "proposals".
            maps: by level, the student's and the teacher's (N, C, H, W) maps to compare.
            levels: the levels.
        """
        proposals = self._propose(student, teacher)
        level = None
        if self.pool_levels == "assigned":
            level = assign_levels(proposals.boxes, levels, self.canonical_box_size)
        scores = self._score(proposals, maps, levels, level)
        if self.selection == "all" or not scores.shape[1]:
            index = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)
            kept = proposals.valid
        else:
            index, kept = select_top(scores, proposals.valid, self.fraction)
        boxes = proposals.boxes.gather(1, index[..., None].expand(-1, -1, 4))
        chosen = None if level is None else level.gather(1, index)
        return SelectedProposals(proposals, scores, index, kept, boxes, chosen)

    def _propose(self, student: StudentSignals, teacher: TeacherSignals) -> Proposals:
        """The proposals of both detectors that pass the filters, in one table."""
        both = [
            filter_proposals(
                signals.proposals(self.topk),
                topk=self.topk,
                threshold=self.objectness_threshold,
                fallback=self.fallback_topk,
                nms_threshold=self.nms_threshold,
            )
            for signals in (student, teacher)
        ]
        joined = join_proposals(*both)
        if self.joint_nms_threshold > 0:
            joined = filter_proposals(joined, nms_threshold=self.joint_nms_threshold)
        return joined

    def _score(
        self,
        proposals: Proposals,
        maps: Sequence[tuple[Tensor, Tensor]],
        levels: Sequence[Level],
        level: Tensor | None,
    ) -> Tensor:
        """(N, P) by which proposals are selected, the largest first."""
        if self.selection == "random":
            return torch.rand_like(proposals.objectness)
        if self.selection != "discrepancy":
            return proposals.objectness
        strides = [x.stride for x in levels]
        student, teacher = zip(*maps, strict=True)
        scores = []
        for crops in pool_pairs(student, teacher, strides, proposals.boxes, level, self.resolution):
            parts = [softmax_distance(*pair, temperature=self.temperature) for pair in crops]
            distance, variance = (torch.cat(x, dim=1) for x in zip(*parts, strict=True))
            scores.append(relative_distance(distance, variance, proposals.valid))
        return torch.stack(scores).mean(0)

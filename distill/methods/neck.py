"""The seam for feature losses: everything that imitating a neck needs but the loss itself.

A feature loss sees a level of the student's map, in the teacher's channels, and the teacher's map,
both cropped to the cells that they share. `NeckMethod` chooses the levels, adapts, crops, adds the
levels up, weighs and logs; a method adds its keys and its loss.

Letters: N images, C channels of the teacher, H and W cells that both maps have, G objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from distill.methods.base import Method, MethodOutput
from distill.methods.schedule import Schedule
from distill.views.ground_truth import GroundTruth
from distill.views.levels import Level, assign_levels, common_region
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["MapPair", "NeckContext", "NeckMethod"]

T = TypeVar("T")


@dataclass(frozen=True)
class NeckContext:
    """What a feature loss may ask about the level that it compares.

    Attributes:
        student: the student's signals, for the objects, anchors and whatever else a mask needs.
        teacher: the teacher's.
        levels: all levels that are compared, from the finest to the coarsest.
        index: the place of this one among them.
        size: height and width (H, W) of the maps in cells.
    """

    student: StudentSignals
    teacher: TeacherSignals
    levels: tuple[Level, ...]
    index: int
    size: tuple[int, int]
    # Shared by the contexts of a batch.
    _known: dict[str, Any] = field(default_factory=dict, repr=False)
    _notes: dict[str, list[Tensor]] = field(default_factory=dict, repr=False)

    @property
    def level(self) -> Level:
        """The level: its names, stride and channels."""
        return self.levels[self.index]

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What a function returns, called at the first level of a batch that asks for it.

        Args:
            name: names the value among the method's.
            compute: makes what all levels need.
        """
        if name not in self._known:
            self._known[name] = compute()
        return self._known[name]

    def objects(self, canonical_box_size: int | None = None) -> GroundTruth:
        """The objects of the batch, padded to G an image.

        Args:
            canonical_box_size: square root of the box area, in pixels, that belongs on the
                stride-16 level; objects that belong on other levels are then not valid. None
                leaves all objects on every level.
        """
        truth = self.student.ground_truth
        if canonical_box_size is None:
            return truth
        place = self.once(
            f"levels of objects at {canonical_box_size}",
            lambda: assign_levels(truth.boxes, self.levels, canonical_box_size),
        )
        return GroundTruth(truth.boxes, truth.classes, truth.valid & (place == self.index))

    def note(self, name: str, value: Tensor) -> None:
        """Notes a scalar for the log, which shows its mean over the levels that note it."""
        self._notes.setdefault(name, []).append(value.detach())


@dataclass(frozen=True)
class MapPair:
    """One level of both necks.

    Attributes:
        student: (N, C, H, W), behind its adapter, with gradient.
        teacher: (N, C, H, W), a constant.
        context: the level, and what else is known.
    """

    student: Tensor
    teacher: Tensor
    context: NeckContext


class NeckMethod(Method):
    """Base of the methods that imitate the teacher's neck.

    Subclasses define `feature_loss`, or `compare` where a loss needs all levels at once. Trainable
    blocks of a level go into an `nn.ModuleDict` by the name of the student's level, as the adapters
    do. A method of further terms calls `pair_maps` and `compare` in a `forward` of its own.

    Attributes:
        levels: levels that are compared.
        adapters: a layer a level, by the name of the student's level.
        weight: factor of the loss.
    """

    mean_over_levels: bool = False
    """Whether the terms of the levels are averaged, and not summed."""

    def __init__(
        self,
        schedule: Schedule,
        levels: Sequence[Level],
        adapters: nn.ModuleDict,
        weight: float,
    ) -> None:
        """Notes what the loss is computed with.

        Args:
            schedule: factor of the loss over training.
            levels: levels to compare, from the finest to the coarsest; a part of those that
                student and teacher share.
            adapters: of `build_adapters`.
            weight: factor of the loss.
        """
        super().__init__(schedule)
        self.levels = tuple(levels)
        self.adapters = adapters
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode, matched: Sequence[Level]) -> dict[str, Any]:
        """The constructor's arguments: the keys, and `matched`, the levels of the pair."""
        return {"matched": matched, **super().from_config(cfg, matched)}

    @property
    def requires(self) -> frozenset[str]:
        """The maps; masks of objects need nothing else."""
        return frozenset({"features"})

    def feature_loss(self, student: Tensor, teacher: Tensor, context: NeckContext) -> Tensor:
        """The loss of one level.

        Args:
            student: (N, C, H, W), behind its adapter, with gradient.
            teacher: (N, C, H, W), a constant.
            context: the level, the objects, and where to note numbers for the log.

        Returns:
            Scalar, without the weight.
        """
        raise NotImplementedError(f"{type(self).__name__} must define feature_loss or compare")

    def compare(self, pairs: Sequence[MapPair]) -> Tensor:
        """The loss of all levels, without the weight.

        Args:
            pairs: the levels, from the finest to the coarsest.
        """
        terms = torch.stack([self.feature_loss(x.student, x.teacher, x.context) for x in pairs])
        return terms.mean() if self.mean_over_levels else terms.sum()

    def pair_maps(self, student: StudentSignals, teacher: TeacherSignals) -> list[MapPair]:
        """The adapted maps of the student and those of the teacher, level by level.

        Maps of one stride differ in size where the detectors pad images differently; both are
        cropped to the cells that they share. Padding within these counts like any other place.

        Args:
            student: signals with gradient.
            teacher: signals without.
        """
        known: dict[str, Any] = {}
        notes: dict[str, list[Tensor]] = {}
        pairs = []
        for index, level in enumerate(self.levels):
            adapted = self.adapters[level.student](student.features[level.student])
            mine, other = common_region(adapted, teacher.features[level.teacher])
            size = tuple(mine.shape[-2:])
            context = NeckContext(student, teacher, self.levels, index, size, known, notes)
            pairs.append(MapPair(mine, other, context))
        return pairs

    def notes_of(self, pairs: Sequence[MapPair]) -> dict[str, Tensor]:
        """What the feature losses noted, as diagnostics: the mean over the levels."""
        notes = pairs[0].context._notes
        return {f"{self.name.lower()}/{k}": torch.stack(x).mean() for k, x in notes.items()}

    def forward(self, student: StudentSignals, teacher: TeacherSignals) -> MethodOutput:
        """The loss with its weight, and what it noted for the log."""
        pairs = self.pair_maps(student, teacher)
        loss = self.weight * self.compare(pairs)
        return MethodOutput({f"loss_{self.name.lower()}": loss}, self.notes_of(pairs))

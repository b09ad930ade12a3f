"""The seam for methods that compare what dense heads predict, anchor by anchor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode

from distill.methods.base import Method
from distill.methods.schedule import Schedule
from distill.views.dense_pairs import LevelPair, pair_levels
from distill.views.levels import Level
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

__all__ = ["DenseMethod"]


class DenseMethod(Method):
    """Base of the methods that read the head of a one-stage detector, or another in its place.

    Attributes:
        head: the signal that is read, "dense" or what the method's HEAD says.
        mask_padding: DISTILL.DENSE.MASK_PADDING, whether anchors in the padding are left out.
    """

    def __init__(self, schedule: Schedule, *, mask_padding: bool, head: str = "dense") -> None:
        """Notes what is compared.

        Args:
            schedule: factor of the method's losses over training.
            mask_padding: see the class.
            head: see the class.
        """
        super().__init__(schedule)
        self.head = head
        self.mask_padding = mask_padding

    @classmethod
    def from_config(cls, cfg: CfgNode, matched: Sequence[Level]) -> dict[str, Any]:
        """The constructor's arguments: the keys, and DISTILL.DENSE.MASK_PADDING."""
        own = super().from_config(cfg, matched)
        return {**own, "mask_padding": cfg.DISTILL.DENSE.MASK_PADDING}

    @property
    def requires(self) -> frozenset[str]:
        """The head whose predictions are compared."""
        return frozenset({"features", self.head})

    def pair_levels(self, student: StudentSignals, teacher: TeacherSignals) -> Iterator[LevelPair]:
        """The levels of both, from the finest to the coarsest, at the same anchors."""
        return pair_levels(student, teacher, head=self.head, mask_padding=self.mask_padding)

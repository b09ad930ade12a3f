"""Imitation of the neck up to scale and offset (PKD), arXiv 2207.02039.

The maps are compared by Pearson correlation, channel by channel over the whole batch, so that
detectors of different families, whose maps differ in scale, can be paired. The loss, the number of
levels and the weights are those of the authors' code. The adapter for other channels is ours. As
published, statistics are those of a device's part of the batch: two processes do not have the loss
of one with the doubled batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode, configurable
from torch import Tensor

from distill.losses import pearson_imitation
from distill.methods.adapters import ADAPTERS, build_adapters, variance_preserving
from distill.methods.base import METHODS
from distill.methods.neck import NeckContext, NeckMethod
from distill.methods.schedule import Schedule, schedule_keys
from distill.utils.config_keys import limit
from distill.utils.key_limits import number, one_of, whole
from distill.views.levels import Level

__all__ = ["PKD"]


@METHODS.register()
class PKD(NeckMethod):
    """Pearson imitation of the neck, without masks; padding counts like any other place."""

    name = "PKD"

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Adds the keys of DISTILL.PKD with their defaults."""
        # Factor of the loss, which is summed over the levels. Published: 6 for Faster R-CNN, and
        # for RetinaNet under Mask R-CNN; 10 for RetinaNet under RetinaNet or FCOS, and for
        # RepPoints.
        node.WEIGHT = 6.0
        # How many of the shared levels are imitated, the finest ones; all where there are fewer.
        node.LEVELS = 4
        # How the student's channels reach the teacher's where these differ: conv1x1, conv3x3 or
        # none.
        node.ADAPTER = "conv1x1"
        # Factor of the loss over training.
        node.SCHEDULE = schedule_keys("constant")
        limit(
            node,
            WEIGHT=number(at_least=0),
            LEVELS=whole(at_least=1),
            ADAPTER=one_of(*ADAPTERS),
        )

    @configurable
    def __init__(
        self,
        *,
        matched: Sequence[Level],
        schedule: Schedule,
        weight: float,
        levels: int,
        adapter: str,
    ) -> None:
        """Checks the values, which `add_keys` describes, and builds the adapters.

        Raises:
            ValueError: one sentence that names the key, if a value is not allowed.
        """
        used = matched[:levels]
        # The loss divides by the deviation of the adapted map: from weights near 0, with which
        # other methods start, the gradient of the adapters would be thousands of times larger.
        adapters = build_adapters(
            adapter, used, "DISTILL.PKD.ADAPTER", variance_preserving, always=False
        )
        super().__init__(schedule, used, adapters, weight)

    def feature_loss(self, student: Tensor, teacher: Tensor, context: NeckContext) -> Tensor:
        """1 - r of the level, r the mean correlation over the channels."""
        return pearson_imitation(student, teacher)

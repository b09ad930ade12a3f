"""What a detector lets a distillation method see, and how it is read without touching it.

The student runs its own, unmodified forward under a recorder of forward hooks; the teacher
computes the same signals on demand (see `distill.views.teacher`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from distill.utils.replacement import replaced_method
from distill.views.contract import offered_signals
from distill.views.dense import DensePredictions, dense_predictions, stack_labels
from distill.views.ground_truth import GroundTruth
from distill.views.proposals import Proposals, dense_proposals
from distill.views.roi import RoiOutputs, box_pooler, run_roi_head

__all__ = [
    "StudentSignals",
    "image_sizes",
    "record_student",
]


@dataclass
class StudentSignals:
    """What one forward of the student in training showed.

    Attributes:
        model: the student.
        batched_inputs: the batch, in Detectron2's format.
        features: the backbone's maps by level name, (N, C, H, W) each.
        rpn_proposals: what the proposal generator returned, one Instances an image, or None.
        sampled: the proposals that the ROI head sampled and labeled, or None.
        roi_boxes: their boxes as the box pooler saw them, one Boxes an image, or None.
        roi_outputs: the box predictor's outputs on them, or None.
        head_outputs: what the head of a dense detector returned, or None.
        rpn_outputs: what the head of an RPN returned, or None.
        anchor_labels: (N, R) labels of a dense detector's anchors, level after level: K for the
            background, -1 where ignored; or None.
    """

    model: nn.Module
    batched_inputs: Sequence[dict]
    features: dict[str, Tensor] = field(default_factory=dict)
    rpn_proposals: list[Instances] | None = None
    sampled: list[Instances] | None = None
    roi_boxes: list[Boxes] | None = None
    roi_outputs: RoiOutputs | None = None
    head_outputs: Sequence[Sequence[Tensor]] | None = None
    rpn_outputs: Sequence[Sequence[Tensor]] | None = None
    anchor_labels: Tensor | None = None

    @cached_property
    def ground_truth(self) -> GroundTruth:
        """The batch's annotations."""
        device = next(iter(self.features.values())).device
        return GroundTruth.from_inputs(self.batched_inputs, device)

    def run_roi_head(self, boxes: Sequence[Boxes]) -> RoiOutputs:
        """Runs the student's ROI head on other boxes, one Boxes an image, with gradient."""
        return run_roi_head(self.model.roi_heads, self.features, boxes)

    def proposals(self, topk: int) -> Proposals:
        """The proposals of its RPN, or a dense head's best `topk` boxes an image."""
        if self.rpn_proposals is not None:
            return Proposals.from_instances(self.rpn_proposals)
        sizes = image_sizes(self.batched_inputs)
        return dense_proposals(self.model, self.features, self.head_outputs, sizes, topk)

    def dense(self, head: str = "dense") -> DensePredictions:
        """The predictions of its head ("dense"), or of its RPN ("rpn"), with gradient."""
        outputs = self.rpn_outputs if head == "rpn" else self.head_outputs
        return dense_predictions(self.model, head, self.features, outputs)

    def detect(self, index: int) -> Instances:
        """What the student, as it is evaluated, finds in an image of the batch; for pictures."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.no_grad():
                return self.model([{"image": self.batched_inputs[index]["image"]}])[0]["instances"]
        finally:
            for module, training in modes:
                module.training = training


def image_sizes(batched_inputs: Sequence[dict]) -> list[tuple[int, int]]:
    """Height and width of every image, without padding."""
    return [tuple(x["image"].shape[-2:]) for x in batched_inputs]


@contextmanager
def record_student(model: nn.Module, batched_inputs: Sequence[dict]) -> Iterator[StudentSignals]:
    """Watches one forward of the student; the hooks are gone when the context ends.

    Args:
        model: the student, in training mode.
        batched_inputs: the batch that will be given to it.
    """
    signals = StudentSignals(model, batched_inputs)

    def on_backbone(module: nn.Module, args: tuple, output: dict[str, Tensor]) -> None:
        signals.features = output

    def on_proposals(module: nn.Module, args: tuple, output: tuple) -> None:
        signals.rpn_proposals = output[0]

    def on_pooler(module: nn.Module, args: tuple, output: Tensor) -> None:
        # ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES later puts other boxes into the sampled proposals.
        signals.roi_boxes = args[1]

    def on_predictor(module: nn.Module, args: tuple, output: tuple[Tensor, Tensor]) -> None:
        signals.roi_outputs = RoiOutputs(*output, module.box2box_transform)

    def on_head(module: nn.Module, args: tuple, output: Sequence[Sequence[Tensor]]) -> None:
        signals.head_outputs = output

    def on_rpn_head(module: nn.Module, args: tuple, output: Sequence[Sequence[Tensor]]) -> None:
        signals.rpn_outputs = output

    def on_labels(output: tuple) -> None:
        signals.anchor_labels = stack_labels(output[0])

    def on_sampling(output: list[Instances]) -> None:
        # Res5ROIHeads, unlike the others, does not return what it samples.
        signals.sampled = output

    offered = offered_signals(model)
    with ExitStack() as undo:

        def watch(module: nn.Module, hook: Callable) -> None:
            undo.callback(module.register_forward_hook(hook).remove)

        watch(model.backbone, on_backbone)
        if "rpn_proposals" in offered:
            watch(model.proposal_generator, on_proposals)
        if "rpn" in offered:
            watch(model.proposal_generator.rpn_head, on_rpn_head)
        if "dense" in offered:
            watch(model.head, on_head)
            undo.enter_context(_watch_method(model, "label_anchors", on_labels))
        if "roi" in offered:
            heads = model.roi_heads
            undo.enter_context(_watch_method(heads, "label_and_sample_proposals", on_sampling))
            watch(box_pooler(heads), on_pooler)
            watch(heads.box_predictor, on_predictor)
        yield signals


def _watch_method(
    owner: nn.Module, name: str, note: Callable[[Any], None]
) -> AbstractContextManager[None]:
    """Notes what a method of a module returns, where no module's forward would show it."""

    def watched(method: Callable, *args: Any, **kwargs: Any) -> Any:
        output = method(*args, **kwargs)
        note(output)
        return output

    return replaced_method(owner, name, watched)

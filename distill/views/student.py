"""What a detector lets a distillation method see, and how it is read without touching it.

The student runs its own, unmodified forward under a recorder of forward hooks; the teacher
computes the same signals on demand (see `distill.views.teacher`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from distill.views.dense import DensePredictions, dense_predictions, stack_labels
from distill.views.regions import RegionProposals, dense_regions

__all__ = [
    "GroundTruth",
    "RoiOutputs",
    "StudentSignals",
    "image_sizes",
    "provided_signals",
    "record_student",
    "run_roi_head",
]


@dataclass(frozen=True)
class RoiOutputs:
    """Raw outputs of a box predictor.

    Attributes:
        scores: (P, K + 1) logits, the background last.
        deltas: (P, 4) class-agnostic or (P, 4 K) class-specific box deltas.
        box_transform: Detectron2's Box2BoxTransform that gives the deltas their meaning.
    """

    scores: Tensor
    deltas: Tensor
    box_transform: Any

    def __getitem__(self, index: Tensor) -> RoiOutputs:
        """The outputs of some of the proposals, by a (Q,) index."""
        return RoiOutputs(self.scores[index], self.deltas[index], self.box_transform)

    def class_deltas(self, classes: Tensor) -> Tensor:
        """Deltas (P, 4) of each proposal's given class (P,); the background takes the last."""
        if self.deltas.shape[1] == 4:
            return self.deltas
        deltas = self.deltas.view(len(self.deltas), -1, 4)
        index = classes.clamp(max=deltas.shape[1] - 1).view(-1, 1, 1).expand(-1, 1, 4)
        return deltas.gather(1, index)[:, 0]


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of a batch, padded to G boxes an image, on the model's device.

    Attributes:
        boxes: (N, G, 4) corners in pixels of the network's input; zeros where padded.
        classes: (N, G) labels; zeros where padded.
        valid: (N, G) bool, False where padded.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor

    @classmethod
    def from_inputs(cls, batched_inputs: Sequence[dict], device: torch.device) -> GroundTruth:
        """Collates `instances` where they lie (usually in host memory) and copies them once."""
        boxes = [x["instances"].gt_boxes.tensor for x in batched_inputs]
        classes = [x["instances"].gt_classes for x in batched_inputs]
        counts = torch.tensor([len(x) for x in boxes], device=boxes[0].device)
        pad = nn.utils.rnn.pad_sequence
        padded = pad(boxes, batch_first=True)
        places = torch.arange(padded.shape[1], device=padded.device)
        return cls(
            padded.to(device, non_blocking=True),
            pad(classes, batch_first=True).to(device, non_blocking=True),
            (places < counts[:, None]).to(device, non_blocking=True),
        )


@dataclass
class StudentSignals:
    """What one forward of the student in training showed.

    Attributes:
        model: the student.
        batched_inputs: the batch, in Detectron2's format.
        features: the backbone's maps by level name, (N, C, H, W) each.
        proposals: what the proposal generator returned, one Instances an image, or None.
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
    proposals: list[Instances] | None = None
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

    def regions(self, topk: int) -> RegionProposals:
        """The proposals of its RPN, or a dense head's best `topk` boxes an image."""
        if self.proposals is not None:
            return RegionProposals.from_instances(self.proposals)
        sizes = image_sizes(self.batched_inputs)
        return dense_regions(self.model, self.features, self.head_outputs, sizes, topk)

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


def provided_signals(model: nn.Module) -> frozenset[str]:
    """The signals that a detector can provide.

    "features"; "proposals", "roi" and "rpn" of a two-stage detector; "dense" of a one-stage one,
    and "distribution" where it predicts boxes as distributions (GFL). "regions" are there wherever
    boxes are: proposals, or the boxes of a dense head.
    """
    signals = set()
    if hasattr(model, "backbone"):
        signals.add("features")
    roi_heads = getattr(model, "roi_heads", None)
    if getattr(model, "proposal_generator", None) is not None and roi_heads is not None:
        signals |= {"proposals", "regions"}
        if hasattr(model.proposal_generator, "rpn_head"):
            signals.add("rpn")
        # Cascade heads have a list of predictors, whose stages see different boxes.
        predictor = getattr(roi_heads, "box_predictor", None)
        if predictor is not None and not isinstance(predictor, nn.ModuleList):
            signals.add("roi")
    if isinstance(model, DenseDetector) and hasattr(model, "anchor_generator"):
        signals |= {"regions", "dense"}
        if hasattr(model, "reg_max"):
            signals.add("distribution")
    return frozenset(signals)


def run_roi_head(
    roi_heads: nn.Module, features: dict[str, Tensor], boxes: Sequence[Boxes]
) -> RoiOutputs:
    """Pools given boxes and runs box head and predictor: no sampling, NMS or post-processing.

    Args:
        roi_heads: Detectron2's StandardROIHeads or Res5ROIHeads.
        features: the backbone's maps by level name.
        boxes: one Boxes an image, P in all.
    """
    boxes = list(boxes)
    if hasattr(roi_heads, "box_pooler"):
        maps = [features[name] for name in roi_heads.box_in_features]
        pooled = roi_heads.box_head(roi_heads.box_pooler(maps, boxes))
    else:
        maps = [features[name] for name in roi_heads.in_features]
        pooled = roi_heads.res5(roi_heads.pooler(maps, boxes)).mean(dim=[2, 3])
    predictor = roi_heads.box_predictor
    scores, deltas = predictor(pooled)
    return RoiOutputs(scores, deltas, predictor.box2box_transform)


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
        signals.proposals = output[0]

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

    provided = provided_signals(model)
    with ExitStack() as undo:

        def watch(module: nn.Module, hook: Callable) -> None:
            undo.callback(module.register_forward_hook(hook).remove)

        watch(model.backbone, on_backbone)
        if "proposals" in provided:
            watch(model.proposal_generator, on_proposals)
        if "rpn" in provided:
            watch(model.proposal_generator.rpn_head, on_rpn_head)
        if "dense" in provided:
            watch(model.head, on_head)
            undo.enter_context(_watch_method(model, "label_anchors", on_labels))
        if "roi" in provided:
            heads = model.roi_heads
            undo.enter_context(_watch_method(heads, "label_and_sample_proposals", on_sampling))
            watch(heads.box_pooler if hasattr(heads, "box_pooler") else heads.pooler, on_pooler)
            watch(heads.box_predictor, on_predictor)
        yield signals


@contextmanager
def _watch_method(owner: nn.Module, name: str, note: Callable[[Any], None]) -> Iterator[None]:
    """Notes what a method of a module returns, where no module's forward would show it."""
    method = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        output = method(*args, **kwargs)
        note(output)
        return output

    # An attribute of the instance shadows the class's method until it is removed.
    before = vars(owner).get(name)
    setattr(owner, name, watched)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)

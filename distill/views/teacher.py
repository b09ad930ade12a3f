"""The teacher: built by reference, verified, frozen, hidden, and run only as far as asked."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from distill.views.contract import offered_signals
from distill.views.dense import DensePredictions, dense_predictions
from distill.views.proposals import Proposals, dense_proposals
from distill.views.roi import RoiOutputs, run_roi_head
from distill.views.student import image_sizes

__all__ = ["FrozenTeacher", "TeacherSignals"]

PRECISIONS = ("auto", "float32", "float16", "bfloat16")


class FrozenTeacher:
    """A detector in eval mode without gradients, which is no submodule of anything.

    It is an ordinary object, so that a module that holds one has the teacher neither among its
    parameters, buffers and modules nor in its state_dict. Copies of the module share it, and it
    follows the module for which it was made and none of these.

    Attributes:
        model: the detector.
        cfg: its config, or None.
        precision: "auto" (whatever autocast is active), float32, float16 or bfloat16.
        class_map: (K_S,) the teacher's column of every class of the student, or None if equal.
        swap_channels: whether images come in the other channel order (BGR or RGB) than its own.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        cfg: CfgNode | None = None,
        precision: str = "auto",
        class_map: Tensor | None = None,
        swap_channels: bool = False,
    ) -> None:
        """Freezes a detector.

        Args:
            model: any Detectron2 detector, with its weights loaded.
            cfg: its config.
            precision: see the class.
            class_map: see the class.
            swap_channels: see the class.

        Raises:
            ValueError: if the precision is unknown.
        """
        if precision not in PRECISIONS:
            raise ValueError(
                f'DISTILL.TEACHER.PRECISION is "{precision}"; choose one of {", ".join(PRECISIONS)}'
            )
        self.model = model.eval().requires_grad_(False)
        self.cfg = cfg
        self.precision = precision
        self.class_map = class_map
        self.swap_channels = swap_channels
        self._owner: weakref.ref[nn.Module] | None = None

    def __deepcopy__(self, memo: dict) -> FrozenTeacher:
        """Itself: a copy of the student, such as an average of its weights, shares the teacher."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Without the reference to its module, which can't be pickled."""
        return {**vars(self), "_owner": None}

    def belong_to(self, module: nn.Module) -> None:
        """Notes the module that :meth:`follow` follows from now on."""
        self._owner = weakref.ref(module)

    def follow(self, module: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        """Follows what `nn.Module.to` and its kin do to the module that the teacher belongs to.

        Args:
            module: the one that is converted; nothing is done for a copy of the teacher's own.
            function: what is done to its tensors.
        """
        owner = self._owner and self._owner()
        if owner is None:  # It is gone, or was pickled: the teacher goes on with who has it.
            self.belong_to(module)
        elif owner is not module:
            return
        self.model._apply(function)
        if self.class_map is not None:
            # Through float, as the function may convert floating-point types; indices stay whole.
            self.class_map = self.class_map.to(function(torch.zeros(1)).device)

    def signals(self, batched_inputs: Sequence[dict]) -> TeacherSignals:
        """A lazy view of what the teacher says about a batch; nothing is computed yet."""
        return TeacherSignals(self, batched_inputs)

    def autocast(self, device_type: str) -> contextlib.AbstractContextManager:
        """The context of the teacher's forward."""
        if self.precision == "auto":
            return contextlib.nullcontext()
        if self.precision == "float32":
            return torch.autocast(device_type, enabled=False)
        return torch.autocast(device_type, dtype=getattr(torch, self.precision))


class TeacherSignals:
    """The teacher's signals for one batch, each computed on first use, once, without gradient."""

    def __init__(self, teacher: FrozenTeacher, batched_inputs: Sequence[dict]) -> None:
        """Notes the batch.

        Args:
            teacher: the teacher.
            batched_inputs: the batch, in Detectron2's format; only `image` is read.
        """
        self._teacher = teacher
        self._model = teacher.model
        self._inputs = batched_inputs

    def _run(self, function: Callable[[], Any]) -> Any:
        """Calls a function as the teacher: without gradient and in its precision."""
        with torch.no_grad(), self._teacher.autocast(self._model.device.type):
            return function()

    @cached_property
    def images(self) -> ImageList:
        """The batch, normalized and padded by the teacher's own statistics and strides."""
        return self._run(lambda: self._model.preprocess_image(self._own_inputs(self._inputs)))

    def _own_inputs(self, inputs: Sequence[dict]) -> list[dict]:
        """The images alone, in the teacher's order of channels."""
        images = [x["image"] for x in inputs]
        return [{"image": x.flip(0) if self._teacher.swap_channels else x} for x in images]

    def detect(self, index: int) -> Instances:
        """What the teacher finds in an image of the batch, in its own classes; for pictures."""
        inputs = self._own_inputs([self._inputs[index]])
        return self._run(lambda: self._model(inputs))[0]["instances"]

    @cached_property
    def features(self) -> dict[str, Tensor]:
        """The backbone's maps by level name, (N, C, H, W) each."""
        return self._run(lambda: self._model.backbone(self.images.tensor))

    @cached_property
    def rpn_proposals(self) -> list[Instances]:
        """The proposals of the teacher's own proposal generator, one Instances an image."""
        generate = self._model.proposal_generator
        return self._run(lambda: generate(self.images, self.features, None)[0])

    @cached_property
    def head_outputs(self) -> Sequence[Sequence[Tensor]]:
        """What the head of a dense detector returns: lists by level, logits first."""
        maps = [self.features[name] for name in self._model.head_in_features]
        return self._run(lambda: self._model.head(maps))

    @cached_property
    def rpn_outputs(self) -> Sequence[Sequence[Tensor]]:
        """What the head of its RPN returns: lists by level, objectness first; no proposals."""
        generate = self._model.proposal_generator
        maps = [self.features[name] for name in generate.in_features]
        return self._run(lambda: generate.rpn_head(maps))

    def dense(self, head: str = "dense") -> DensePredictions:
        """The predictions of its head ("dense") in the student's classes, or of its RPN ("rpn").

        Without assignment, suppression or post-processing.
        """
        if head == "rpn":
            return dense_predictions(self._model, head, self.features, self.rpn_outputs)
        classes = self._teacher.class_map
        return dense_predictions(self._model, head, self.features, self.head_outputs, classes)

    def proposals(self, topk: int) -> Proposals:
        """The proposals of its RPN, or a dense head's best `topk` boxes an image."""
        if "rpn_proposals" in offered_signals(self._model):
            return Proposals.from_instances(self.rpn_proposals)
        sizes = image_sizes(self._inputs)
        return dense_proposals(self._model, self.features, self.head_outputs, sizes, topk)

    def run_roi_head(self, boxes: Sequence[Boxes]) -> RoiOutputs:
        """The teacher's ROI head on given boxes, one Boxes an image, in the student's classes."""
        outputs = self._run(lambda: run_roi_head(self._model.roi_heads, self.features, boxes))
        return _select_classes(outputs, self._teacher.class_map)


def _select_classes(outputs: RoiOutputs, class_map: Tensor | None) -> RoiOutputs:
    """Outputs in the student's order of classes, the background last."""
    if class_map is None:
        return outputs
    scores, deltas = outputs.scores, outputs.deltas
    scores = torch.cat([scores[:, class_map], scores[:, -1:]], dim=1)
    if deltas.shape[1] > 4:
        deltas = deltas.view(len(deltas), -1, 4)[:, class_map].flatten(1)
    return RoiOutputs(scores, deltas, outputs.box_transform)

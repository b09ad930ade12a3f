"""The meta-architecture: one student, one frozen teacher, a list of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn

from distill.build import build_pair, check_pair
from distill.methods.base import Method, MethodOutput
from distill.modeling.auxiliary_losses import add_auxiliary_losses
from distill.views.student import record_student
from distill.views.teacher import FrozenTeacher

__all__ = ["Distiller", "student_of", "teacher_of"]

_STUDENT, _DISTILL = "student.", "distill."


@META_ARCH_REGISTRY.register()
class Distiller(nn.Module):
    """Trains a student with its own losses and those of distillation methods.

    In evaluation it is the student. Its state_dict holds the student under plain Detectron2's own
    keys and the methods' adapters under ``distill.``; the teacher is in none of the module's
    parameters, buffers, modules or state. Attributes that it lacks are the student's.

    Attributes:
        student: the detector that is trained.
        teacher: the frozen teacher, or None without methods.
        methods: the methods, in the order of the config.
    """

    @configurable
    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: FrozenTeacher | None = None,
        methods: Sequence[Method] = (),
        log_period: int = 20,
        vis_period: int = 0,
    ) -> None:
        """Checks that the pair provides what the methods require.

        Args:
            student: any Detectron2 detector.
            teacher: the teacher; needed by methods.
            methods: the methods; without any, training is plain Detectron2's.
            log_period: iterations between two writes of the methods' diagnostics.
            vis_period: iterations between two pictures of the methods; 0 for none.

        Raises:
            ValueError: one sentence, if the pair lacks a signal that a method requires.
        """
        super().__init__()
        add_auxiliary_losses(student)
        self.student = student
        self.teacher = teacher
        self.distill = nn.ModuleDict({method.name: method for method in methods})
        self.log_period = log_period
        self.vis_period = vis_period
        if methods and teacher is None:
            raise ValueError("distillation methods need a teacher, but there is none")
        if teacher is not None:
            check_pair(student, teacher.model, methods)
            teacher.belong_to(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Builds student, teacher and methods from one config."""
        student, teacher, methods = build_pair(cfg)
        return {
            "student": student,
            "teacher": teacher,
            "methods": methods,
            "log_period": cfg.DISTILL.LOG_PERIOD,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def methods(self) -> list[Method]:
        """The distillation methods, in the order of the config."""
        return list(self.distill.values())

    def forward(self, batched_inputs: Sequence[dict]) -> Any:
        """The student's losses and the methods', or the student's detections in evaluation.

        Args:
            batched_inputs: Detectron2's list of dicts, one an image.

        Returns:
            In training a dict of scalar losses, else what the student returns.
        """
        if not self.training or not self.distill:
            return self.student(batched_inputs)
        # The images are copied to the device once, for student and teacher.
        device = self.student.device
        batched_inputs = [
            {**x, "image": x["image"].to(device, non_blocking=True)} for x in batched_inputs
        ]
        teacher = self.teacher.signals(batched_inputs)
        with record_student(self.student, batched_inputs) as seen:
            losses = dict(self.student(batched_inputs))
        storage = _event_storage()
        iteration = storage.iter if storage else 0
        diagnostics: dict[str, Tensor | float] = {}
        for method in self.methods:
            factor = method.schedule(iteration)
            diagnostics[f"{method.name.lower()}/factor"] = factor
            if factor == 0:
                losses.update({k: x.to(device) for k, x in method.switched_off().items()})
                continue
            output = method(seen, teacher)
            losses.update({key: loss * factor for key, loss in output.losses.items()})
            diagnostics.update(output.diagnostics)
            self._show(storage, method, output)
        if storage and (iteration + 1) % self.log_period == 0:
            _write(storage, diagnostics)
        return losses

    def _show(self, storage: EventStorage | None, method: Method, output: MethodOutput) -> None:
        """Writes the method's picture in the iterations that log pictures."""
        if storage and output.picture and self.vis_period and not storage.iter % self.vis_period:
            storage.put_image(f"{method.name.lower()}/picture", output.picture().transpose(2, 0, 1))

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Distiller:
        """Moves or converts the module, and the teacher with it; a copy's leaves it alone."""
        super()._apply(fn, *args, **kwargs)
        if self.teacher is not None:
            self.teacher.follow(self, fn)
        return self

    def __getattr__(self, name: str) -> Any:
        """The student's attribute where this module has none, as for code that reads `backbone`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("student"), name)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The student under its own keys, adapters under ``distill.``."""
        state = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        for key in list(state):
            if key.startswith(prefix + _STUDENT):
                state[prefix + key[len(prefix + _STUDENT) :]] = state.pop(key)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loads what `state_dict` returns, or a plain checkpoint of the student.

        Returns:
            The missing and unexpected keys, as `state_dict` names them.
        """
        inner = {
            key if key.startswith(_DISTILL) else _STUDENT + key: value
            for key, value in state_dict.items()
        }
        result = super().load_state_dict(inner, *args, **kwargs)
        for keys in result:
            keys[:] = [key.removeprefix(_STUDENT) for key in keys]
        return result


def student_of(model: nn.Module) -> nn.Module:
    """The detector that is trained, evaluated and exported: a Distiller's student, or the model."""
    return model.student if isinstance(model, Distiller) else model


def teacher_of(model: nn.Module) -> FrozenTeacher | None:
    """The teacher of a Distiller; None where there is none."""
    return model.teacher if isinstance(model, Distiller) else None


def _event_storage() -> EventStorage | None:
    """The current event storage; None outside a training loop."""
    try:
        return get_event_storage()
    except AssertionError:
        return None


def _write(storage: EventStorage, diagnostics: Mapping[str, Tensor | float]) -> None:
    """Writes scalars, fetching all tensors from the device in one transfer."""
    tensors = {k: x.detach().float() for k, x in diagnostics.items() if isinstance(x, Tensor)}
    values: dict[str, float] = {k: x for k, x in diagnostics.items() if k not in tensors}
    if tensors:
        values.update(zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True))
    for key, value in values.items():
        storage.put_scalar(key, value, smoothing_hint=False)

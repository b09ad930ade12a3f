"""Dense detectors of a few channels, and pairs of them under one method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from distill import Distiller
from distill.methods import Method
from distill.methods.schedule import Schedule
from distill.views.dense_pairs import pair_levels
from distill.views.student import StudentSignals, record_student
from distill.views.teacher import FrozenTeacher, TeacherSignals
from helpers import tiny

# One anchor a cell, where FCOS has its points.
ONE_ANCHOR = {
    "MODEL__ANCHOR_GENERATOR__ASPECT_RATIOS": [[1.0]],
    "MODEL__ANCHOR_GENERATOR__OFFSET": 0.5,
}


def retinanet(seed: int = 0, **changes: Any) -> nn.Module:
    return lively(tiny.build(tiny.retinanet_cfg(**changes), seed))


def one_anchor(seed: int = 0, **changes: Any) -> nn.Module:
    return retinanet(seed, **{**ONE_ANCHOR, **changes})


def fcos(seed: int = 0) -> nn.Module:
    return lively(tiny.build_fcos(seed=seed))


def fcos_cfg(**changes: Any) -> CfgNode:
    return _anchor_free("FCOS", architecture="ConfigurableFCOS", **changes)


def ssd(seed: int = 0) -> nn.Module:
    """SSD for images of 64x64 pixels."""
    cfg = tiny.changed(
        tiny.rcnn_cfg(),
        MODEL__META_ARCHITECTURE="SSD",
        MODEL__BACKBONE__NAME="build_ssd_vgg_backbone",
        MODEL__ANCHOR_GENERATOR__NAME="SSDAnchorGenerator",
        MODEL__ANCHOR_GENERATOR__OFFSET=0.5,
        MODEL__ANCHOR_GENERATOR__SIZES=[12, 24, 40, 60],
        MODEL__SSD__NUM_CLASSES=tiny.NUM_CLASSES,
        MODEL__SSD__IMAGE_SIZE=64,
        MODEL__SSD__VGG_CHANNELS=(4, 6, 8, 8, 8),
        MODEL__SSD__VGG_CONVS=(1, 1, 1, 1, 1),
        MODEL__SSD__FC_CHANNELS=12,
        MODEL__SSD__FC_DILATION=2,
        MODEL__SSD__EXTRA_CHANNELS=(8,),
        MODEL__SSD__EXTRA_CONV_STRIDES=(2,),
        MODEL__SSD__EXTRA_PADDINGS=(1,),
        MODEL__SSD__EXTRA_STRIDES=(32,),
    )
    return lively(tiny.build(cfg, seed))


def gfl(seed: int = 0, **changes: Any) -> nn.Module:
    return lively(tiny.build(_anchor_free("GFL", **changes), seed))


def atss(seed: int = 0, **changes: Any) -> nn.Module:
    return lively(tiny.build(_anchor_free("ATSS", **changes), seed))


def _anchor_free(name: str, *, architecture: str = "", **changes: Any) -> CfgNode:
    keys = {
        f"MODEL__{name}__NUM_CLASSES": tiny.NUM_CLASSES,
        f"MODEL__{name}__IN_FEATURES": ("p2", "p3", "p4"),
        f"MODEL__{name}__NUM_CONVS": 1,
        f"MODEL__{name}__NORM": "BN",
    }
    keys = {"MODEL__META_ARCHITECTURE": architecture or name, **keys, **ONE_ANCHOR, **changes}
    return tiny.changed(tiny.rcnn_cfg(), **keys)


def lively(model: nn.Module) -> nn.Module:
    """Gives the last layers of a head weights with which predictions differ from place to place."""
    for name, module in model.head.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.std() < 0.05 and "subnet" not in name:
            nn.init.normal_(module.weight, std=0.5)
            # Not the low scores that training starts from.
            nn.init.zeros_(module.bias)
    return model


DENSE: dict[str, Callable[..., nn.Module]] = {
    "retinanet": retinanet,
    "one_anchor": one_anchor,
    "fcos": fcos,
    "ssd": ssd,
    "gfl": gfl,
    "atss": atss,
}


def pair(student: nn.Module, teacher: nn.Module, *methods: Method, **arguments: Any) -> Distiller:
    """A Distiller in training."""
    class_map = arguments.pop("class_map", None)
    frozen = FrozenTeacher(teacher, class_map=class_map)
    return Distiller(student=student, teacher=frozen, methods=methods, **arguments).train()


def method(kind: type[Method], **arguments: Any) -> Method:
    return kind.with_defaults(schedule=Schedule(), **arguments)


def signals(
    student: nn.Module, teacher: nn.Module, inputs: list[dict], class_map: Any = None
) -> tuple[StudentSignals, TeacherSignals]:
    """What both show of one batch."""
    with record_student(student.train(), inputs) as seen:
        tiny.step(student, inputs)
    return seen, FrozenTeacher(teacher, class_map=class_map).signals(inputs)


def square_batch() -> list[dict]:
    """Two images of 64x64, as SSD needs them."""
    return tiny.batch()


def unequal_batch() -> list[dict]:
    """Images of unequal sizes, so that the smaller ones are padded."""
    return [
        tiny.example([[8, 8, 40, 48]], (50, 90), seed=1),
        tiny.example([[4, 20, 30, 60], [10, 4, 38, 34]], (64, 40), seed=2),
    ]


def with_logits(model: nn.Module, value: float) -> nn.Module:
    """Makes every logit of the head one value."""
    layer = model.head.cls_score
    for conv in layer if isinstance(layer, nn.ModuleList) else [layer]:
        nn.init.zeros_(conv.weight)
        torch.nn.init.constant_(conv.bias, value)
    return model


def shown(name: str = "retinanet") -> tuple[StudentSignals, TeacherSignals]:
    """What two dense detectors of a kind show of a batch with padding."""
    build = DENSE[name]
    both = signals(build(), build(1), unequal_batch())
    if name == "retinanet":
        # Some that are ignored.
        both[0].anchor_labels[:, ::7] = -1
    return both


def whole(signals: tuple[StudentSignals, TeacherSignals]) -> dict[str, Tensor]:
    """All anchors of all images in one table."""
    pairs = list(pair_levels(*signals))

    def table(of: object) -> Tensor:
        return torch.cat([of(x).flatten(0, 1) for x in pairs])

    return {
        "student_logits": table(lambda x: x.student.logits),
        "teacher_logits": table(lambda x: x.teacher.logits),
        "student_boxes": table(lambda x: x.student.boxes()),
        "teacher_boxes": table(lambda x: x.teacher.boxes()),
        "student_deltas": table(lambda x: x.student.deltas),
        "teacher_deltas": table(lambda x: x.teacher.deltas),
        "valid": table(lambda x: x.valid[..., None])[:, 0],
        "positive": table(lambda x: x.positive[..., None])[:, 0],
    }


def logits_of(x: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return x["student_logits"], x["teacher_logits"], x["valid"]

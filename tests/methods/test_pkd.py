"""PKD on pairs of every kind: levels, adapters, gradients, its keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import tiny, tiny_dense
from torch import nn

from distill import Distiller
from distill.losses import pearson_imitation
from distill.methods import PKD
from distill.methods.schedule import Schedule
from distill.views.levels import Level, match_levels

LEVELS = tuple(Level(f"p{i}", f"p{i}", 2**i, 8, 8) for i in range(2, 8))


def faster_rcnn(seed: int = 0, channels: int = 8) -> nn.Module:
    return tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=channels), seed)


def fcos(seed: int = 0) -> nn.Module:
    return tiny_dense.fcos(seed)


def pair(student: nn.Module, teacher: nn.Module, **arguments: Any) -> Distiller:
    levels = match_levels(student.backbone.output_shape(), teacher.backbone.output_shape())
    method = PKD.with_defaults(levels, schedule=Schedule(), **arguments)
    return tiny_dense.pair(student, teacher, method)


PAIRS: dict[str, tuple[Callable, Callable]] = {
    "faster_rcnn": (faster_rcnn, lambda: faster_rcnn(1)),
    "faster_rcnn_of_other_channels": (faster_rcnn, lambda: faster_rcnn(1, 12)),
    "retinanet": (tiny_dense.retinanet, lambda: tiny_dense.retinanet(1)),
    "fcos": (fcos, lambda: fcos(1)),
    "retinanet_under_faster_rcnn": (tiny_dense.retinanet, lambda: faster_rcnn(1, 12)),
    "faster_rcnn_under_fcos": (faster_rcnn, lambda: fcos(1)),
    "ssd": (tiny_dense.ssd, lambda: tiny_dense.ssd(1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_reaches_every_parameter_with_a_sane_gradient(name: str) -> None:
    student, teacher = PAIRS[name]
    model = pair(student(), teacher())
    loss = tiny.step(model, tiny_dense.square_batch())["loss_pkd"]
    levels = len(model.methods[0].levels)
    # 1 - r of noise is about 1 a level.
    assert loss.dtype == torch.float32 and 0.5 * 6 * levels < loss < 1.5 * 6 * levels
    loss.backward()
    trained = [*model.student.backbone.parameters(), *model.distill.parameters()]
    norm = torch.stack([p.grad.norm() for p in trained if p.grad is not None]).norm()
    # From adapters near 0 it would be above 1000.
    assert 0.1 < norm < 100
    assert all(p.grad is not None for p in model.distill.parameters())


def test_the_detection_losses_are_those_of_plain_detectron2() -> None:
    model = pair(faster_rcnn(), faster_rcnn(1))
    losses = tiny.step(model, tiny.batch())
    expected = tiny.step(faster_rcnn().train(), tiny.batch())
    assert losses.keys() - expected.keys() == {"loss_pkd"}
    assert all(torch.equal(losses[key], x) for key, x in expected.items())


def test_the_loss_is_the_weighted_sum_over_the_levels() -> None:
    student, teacher = faster_rcnn(), faster_rcnn(1)
    inputs = tiny_dense.unequal_batch()
    model = pair(student, teacher, weight=3.0)
    loss = tiny.step(model, inputs)["loss_pkd"]
    with torch.no_grad():
        own, other = (x.backbone(x.preprocess_image(inputs).tensor) for x in (student, teacher))
    # Padding included.
    terms = [pearson_imitation(own[x], other[x]) for x in ("p2", "p3", "p4")]
    torch.testing.assert_close(loss, 3 * torch.stack(terms).sum(), rtol=1e-3, atol=1e-4)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn() -> None:
    model = pair(faster_rcnn(), faster_rcnn())
    for module in model.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert tiny.step(model, tiny.batch())["loss_pkd"].abs() < 1e-5


def test_a_batch_without_objects_reaches_every_parameter() -> None:
    model = pair(faster_rcnn(), faster_rcnn(1, 12))
    losses = tiny.step(model, tiny.empty_batch())
    assert losses["loss_pkd"] > 0
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []


def test_the_loss_is_float32_under_autocast() -> None:
    model = pair(faster_rcnn(), faster_rcnn(1, 12))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = tiny.step(model, tiny.batch())["loss_pkd"]
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.distill.parameters())


def test_nothing_is_read_back_from_the_device() -> None:
    # On this device tensors have no values: asking for one raises.
    maps = {
        side: {x.student: torch.ones(2, 8, 9, 7, device="meta") for x in LEVELS}
        for side in ("student", "teacher")
    }
    maps["student"] = {name: x.requires_grad_() for name, x in maps["student"].items()}
    student, teacher = (SimpleNamespace(features=x) for x in maps.values())
    loss = PKD.with_defaults(LEVELS)(student, teacher).losses["loss_pkd"]
    loss.backward()
    assert loss.device.type == "meta"


@pytest.mark.parametrize(("levels", "expected"), [(4, 4), (1, 1), (9, 6)])
def test_the_finest_levels_are_imitated(levels: int, expected: int) -> None:
    method = PKD.with_defaults(LEVELS, levels=levels)
    assert method.levels == LEVELS[:expected]
    assert PKD.with_defaults(LEVELS).levels == LEVELS[:4]


def test_only_levels_of_other_channels_have_an_adapter() -> None:
    method = PKD.with_defaults((*LEVELS[:2], Level("p4", "p4", 16, 8, 12)))
    assert list(method.state_dict()) == ["adapters.p4.weight", "adapters.p4.bias"]
    assert method.adapters["p4"].kernel_size == (1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 0}, "DISTILL.PKD.LEVELS is 0; it must be at least 1"),
        ({"adapter": "odd"}, 'DISTILL.PKD.ADAPTER is "odd"; choose one of conv3x3, conv1x1, none'),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_key(changes: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        PKD.with_defaults(LEVELS, **changes)
    assert str(error.value).startswith(message)


def test_a_config_builds_it(tmp_path: Path) -> None:
    teacher = tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12)
    keys = {"DISTILL__METHODS": ("PKD",), "DISTILL__PKD__LEVELS": 2, "DISTILL__PKD__WEIGHT": 1.0}
    model = tiny.config_pair(tmp_path, tiny.retinanet_cfg(), teacher, **keys)
    (method,) = model.methods
    assert type(method) is PKD and len(method.levels) == 2 and method.weight == 1
    losses = tiny.step(model, tiny.batch())
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []

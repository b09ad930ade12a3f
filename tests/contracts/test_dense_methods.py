"""ADL, BCKD and LD on every detector they are for: gradients, contracts, bad input, pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils.events import EventStorage
from helpers import tiny, tiny_dense
from torch import Tensor, nn

from distill import Distiller
from distill.engine import TrainLoop
from distill.methods import ADL, BCKD, LD, Method


def faster_rcnn(seed: int = 0) -> nn.Module:
    return tiny.build(tiny.rcnn_cfg(), seed)


# By name: student, teacher and method.
CASES: dict[str, tuple[Callable, Callable, Callable[[], Method]]] = {
    **{
        f"adl_{form}_{name}": (build, build, lambda form=form: tiny_dense.method(ADL, form=form))
        for name, build in tiny_dense.DENSE.items()
        for form in ("code", "paper")
    },
    **{
        f"bckd_{name}": (build, build, lambda: tiny_dense.method(BCKD))
        for name, build in tiny_dense.DENSE.items()
    },
    "bckd_iou": (
        tiny_dense.fcos,
        tiny_dense.fcos,
        lambda: tiny_dense.method(BCKD, iou_type="iou", weight_exponent=2.0),
    ),
    "bckd_skip_empty": (
        tiny_dense.retinanet,
        tiny_dense.retinanet,
        lambda: tiny_dense.method(BCKD, skip_empty_levels=True),
    ),
    "bckd_gfl_retinanet": (
        tiny_dense.one_anchor,
        tiny_dense.gfl,
        lambda: tiny_dense.method(BCKD),
    ),
    "adl_positives": (
        tiny_dense.fcos,
        tiny_dense.atss,
        lambda: tiny_dense.method(ADL, normalizer="positives"),
    ),
    "adl_rpn": (faster_rcnn, faster_rcnn, lambda: tiny_dense.method(ADL, head="rpn")),
    "bckd_roi": (faster_rcnn, faster_rcnn, lambda: tiny_dense.method(BCKD, head="roi")),
    "ld": (tiny_dense.gfl, tiny_dense.gfl, lambda: tiny_dense.method(LD)),
}
EVERY = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def _original_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures; they are otherwise enlarged."""
    monkeypatch.setattr("distill.methods.pictures._LEGIBLE", 1)


def build(case: str, **arguments: Any) -> Distiller:
    student, teacher, make = CASES[case]
    return tiny_dense.pair(student(), teacher(1), make(), **arguments)


def own_losses(model: Distiller, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"loss_{model.methods[0].name.lower()}"
    return {key: x for key, x in losses.items() if key.startswith(prefix)}


def inputs_for(case: str) -> list[dict[str, Any]]:
    return tiny_dense.square_batch() if "ssd" in case else tiny_dense.unequal_batch()


@EVERY
def test_a_step_reaches_every_parameter_and_the_losses_are_positive(case: str) -> None:
    model = build(case)
    losses = tiny.step(model, inputs_for(case))
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    own = own_losses(model, losses)
    assert own and all(x > 0 and x.dtype == torch.float32 for x in own.values())


@EVERY
def test_the_detection_losses_are_bit_for_bit_those_of_plain_detectron2(case: str) -> None:
    model = build(case, vis_period=1, log_period=1)
    losses = tiny.step(model, inputs_for(case))
    expected = tiny.step(CASES[case][0]().train(), inputs_for(case))
    own = own_losses(model, losses)
    assert losses.keys() - own.keys() == expected.keys()
    assert all(torch.equal(losses[key], expected[key]) for key in expected)


def has_empty_images(case: str) -> bool:
    # Detectron2's own FCOS cannot be trained on an image without boxes.
    return CASES[case][0] is not tiny_dense.fcos


@pytest.mark.parametrize("case", [x for x in CASES if has_empty_images(x)])
def test_a_batch_without_objects_is_finite_and_reaches_every_parameter(case: str) -> None:
    model = build(case)
    losses = tiny.step(model, tiny.empty_batch())
    sum(losses.values()).backward()
    assert all(x.isfinite() for x in losses.values())
    assert tiny.without_gradient(model) == []


@pytest.mark.parametrize(
    "case", [x for x in CASES if x.startswith(("bckd", "ld", "adl_paper")) and "gfl_ret" not in x]
)
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(case: str) -> None:
    student, teacher, make = CASES[case]
    model = tiny_dense.pair(student(), teacher(), make())
    # A teacher uses its running statistics, so the student has to as well.
    for module in model.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for loss in own_losses(model, tiny.step(model, inputs_for(case))).values():
        assert loss.abs() < 1e-6


def gradient(model: Distiller, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
    sum(own_losses(model, tiny.step(model, inputs)).values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", ["adl_code_retinanet", "bckd_fcos", "ld"])
def test_neither_teacher_nor_ground_truth_gets_a_gradient(case: str) -> None:
    model = build(case)
    assert gradient(model, inputs_for(case))
    assert all(p.grad is None for p in model.teacher.model.parameters())


@pytest.mark.parametrize("case", ["adl_code_retinanet", "adl_rpn", "bckd_gfl", "bckd_ssd"])
def test_the_picture_shows_heat_and_both_detections(case: str) -> None:
    model = build(case, vis_period=1)
    with EventStorage() as storage:
        model(inputs_for(case))
        (name, picture, _), *_ = [x for x in storage._vis_data if "picture" in x[0]]
    height, width = inputs_for(case)[0]["image"].shape[-2:]
    assert name == f"{model.methods[0].name.lower()}/picture"
    assert picture.shape == (3, height, 3 * width)
    assert all(m.training for m in model.student.modules() if isinstance(m, nn.BatchNorm2d))


def test_methods_work_together_and_the_teacher_runs_once() -> None:
    methods = [tiny_dense.method(x) for x in (ADL, BCKD, LD)]
    model = tiny_dense.pair(tiny_dense.gfl(), tiny_dense.gfl(1), *methods)
    runs: list[str] = []
    model.teacher.model.head.register_forward_hook(lambda *_: runs.append("head"))
    losses = tiny.step(model, tiny.batch())
    assert runs == ["head"]
    for method in methods:
        alone = tiny_dense.pair(tiny_dense.gfl(), tiny_dense.gfl(1), method)
        for key, loss in own_losses(alone, tiny.step(alone, tiny.batch())).items():
            torch.testing.assert_close(losses[key], loss)


def test_one_class_is_distilled() -> None:
    for make in (lambda: tiny_dense.method(ADL), lambda: tiny_dense.method(BCKD)):
        models = [tiny_dense.retinanet(i, MODEL__RETINANET__NUM_CLASSES=1) for i in range(2)]
        inputs = tiny.batch()
        for x in inputs:
            x["instances"].gt_classes[:] = 0
        model = tiny_dense.pair(*models, make())
        assert all(x > 0 for x in own_losses(model, tiny.step(model, inputs)).values())


def config_step(folder: Path, name: str, **teacher: Any) -> Distiller:
    student = tiny.retinanet_cfg(DATASETS__TRAIN=("tiny_abc",))
    other = tiny.retinanet_cfg(**teacher)
    return tiny.config_pair(folder, student, other, DISTILL__METHODS=(name,))


@pytest.mark.parametrize("name", ["ADL", "BCKD"])
def test_a_teacher_of_more_classes_is_mapped_by_name(tmp_path: Path, name: str) -> None:
    more = {"MODEL__RETINANET__NUM_CLASSES": 4, "DATASETS__TRAIN": ("tiny_zcab",)}
    model = config_step(tmp_path, name, **more)
    # zebra, cow, ant, bee.
    assert model.teacher.class_map.tolist() == [2, 3, 1]
    head = model.teacher.model.head.cls_score
    nn.init.zeros_(head.weight)
    # Anchor by anchor, the logit of each class tells which it is.
    head.bias.data = torch.tensor([9.0, 1, 2, 3] * 3)
    levels = list(model.teacher.signals(tiny.batch()).dense())
    assert all((x.logits == torch.tensor([2.0, 3.0, 1.0])).all() for x in levels)
    assert all(x.isfinite() for x in tiny.step(model, tiny.batch()).values())


def test_a_teacher_that_lacks_a_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not know 1 of the student's 3 classes \(cow\)"):
        config_step(tmp_path, "ADL", DATASETS__TRAIN=("tiny_abd",))


def test_a_nan_of_the_teacher_stops_training_with_the_loss_and_the_images() -> None:
    for case, loss in (("adl_code_retinanet", "loss_adl"), ("bckd_retinanet", "loss_bckd_cls")):
        model = build(case)
        original = model.teacher.model.head.forward

        def broken(features: list[Tensor], forward: Callable = original) -> tuple:
            logits, deltas = forward(features)
            logits[0][0, 0, 0, 0] = math.nan
            return logits, deltas

        model.teacher.model.head.forward = broken
        before = {name: p.clone() for name, p in model.student.named_parameters()}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loop = TrainLoop(model, [tiny.batch()], optimizer, seed=0)
        loop.iter = 7
        with EventStorage(), pytest.raises(FloatingPointError) as error:
            loop.run_step()
        assert str(error.value).startswith(f"{loss} (nan)")
        assert "at iteration 7 on the images 0.png, 1.png" in str(error.value)
        assert "check what the teacher predicts (DISTILL.TEACHER.WEIGHTS" in str(error.value)
        assert all(torch.equal(p, before[n]) for n, p in model.student.named_parameters())


@pytest.mark.parametrize("case", ["adl_code_fcos", "bckd_retinanet", "bckd_ssd", "ld"])
@pytest.mark.parametrize("value", [-200.0, 200.0])
def test_extreme_logits_give_finite_losses_and_gradients(case: str, value: float) -> None:
    model = build(case)
    tiny_dense.with_logits(model.student, value)
    tiny_dense.with_logits(model.teacher.model, -value)
    losses = tiny.step(model, inputs_for(case))
    own = own_losses(model, losses)
    sum(own.values()).backward()
    assert all(x.isfinite() for x in own.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("method", "student", "message"),
    [
        (ADL, faster_rcnn, 'set DISTILL.ADL.HEAD to "dense" for one-stage detectors, "rpn"'),
        (BCKD, faster_rcnn, 'set DISTILL.BCKD.HEAD to "dense" for one-stage detectors, "roi"'),
        (LD, tiny_dense.retinanet, "use BCKD, which compares decoded boxes"),
    ],
)
def test_a_detector_without_the_head_is_refused_with_the_key(
    method: type[Method], student: Callable, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        tiny_dense.pair(student(), student(1), tiny_dense.method(method))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_padding_counts_where_the_key_says_so() -> None:
    signals = tiny_dense.shown("fcos")
    for kind in (ADL, BCKD):
        masked = sum(tiny_dense.method(kind)(*signals).losses.values())
        unmasked = sum(tiny_dense.method(kind, mask_padding=False)(*signals).losses.values())
        assert unmasked > masked > 0

"""A student's detection losses stay its own, and a config builds and schedules its distillation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.solver import build_optimizer
from detectron2.structures import PolygonMasks
from detectron2.utils.events import EventStorage
from helpers import tiny, tiny_dense
from torch import nn

from distill import Distiller
from distill.methods.schedule import Schedule

NECK_ONLY = {"cls_weight": 0, "reg_weight": 0}
NECK_ONLY_KEYS = {"DISTILL__TADF__CLS_WEIGHT": 0.0, "DISTILL__TADF__REG_WEIGHT": 0.0}


def train(model: nn.Module, iterations: int) -> list[dict[str, float]]:
    """The losses of SGD steps on changing batches."""
    optimizer = build_optimizer(tiny.rcnn_cfg(SOLVER__BASE_LR=0.02), model.train())
    history = []
    torch.manual_seed(3)
    with EventStorage() as storage:
        for i in range(iterations):
            losses = model(tiny.batch(i % 4))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append({key: loss.item() for key, loss in losses.items()})
            storage.step()
    return history


BASES = {
    "faster_rcnn": tiny.rcnn_cfg(),
    "mask_rcnn": tiny.rcnn_cfg(MODEL__MASK_ON=True),
    "retinanet": tiny.retinanet_cfg(),
    "fcos": tiny_dense.fcos_cfg(),
}


@pytest.mark.parametrize("name", BASES)
def test_without_methods_twenty_iterations_equal_plain_detectron2_bit_for_bit(name: str) -> None:
    cfg = BASES[name]
    model = tiny.build(tiny.distilled(cfg, DISTILL__METHODS=()))
    assert isinstance(model, Distiller) and model.teacher is None and model.methods == []
    history = train(model, 20)
    assert history == train(tiny.build(cfg), 20)
    assert ("loss_mask" in history[0]) == (name == "mask_rcnn")
    if name.endswith("rcnn"):  # The others' normalizer only approaches the number of positives.
        assert sum(history[-1].values()) < sum(history[0].values())


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], dict]] = {
    "faster_rcnn": (
        lambda: tiny.build(tiny.rcnn_cfg()),
        lambda: tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1),
        {},
    ),
    "teacher_proposals": (
        lambda: tiny.build(tiny.rcnn_cfg()),
        lambda: tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1),
        {"share": "both"},
    ),
    "mask_rcnn": (
        lambda: tiny.build(tiny.rcnn_cfg(MODEL__MASK_ON=True)),
        lambda: tiny.build(tiny.rcnn_cfg(), 1),
        {},
    ),
    "c4": (lambda: tiny.build(tiny.c4_cfg()), lambda: tiny.build(tiny.c4_cfg(), 1), {}),
    "c4_mask": (
        lambda: tiny.build(tiny.c4_cfg(MODEL__MASK_ON=True)),
        lambda: tiny.build(tiny.rcnn_cfg(), 1),
        {},
    ),
    "train_on_predicted_boxes": (
        lambda: tiny.build(tiny.rcnn_cfg(MODEL__ROI_BOX_HEAD__TRAIN_ON_PRED_BOXES=True)),
        lambda: tiny.build(tiny.rcnn_cfg(), 1),
        {},
    ),
    "retinanet": (
        lambda: tiny.build(tiny.retinanet_cfg()),
        lambda: tiny.build(tiny.rcnn_cfg(), 1),
        NECK_ONLY,
    ),
    "fcos": (tiny.build_fcos, lambda: tiny.build_fcos(12, 1), NECK_ONLY),
}


@pytest.mark.parametrize("name", PAIRS)
def test_with_methods_the_detection_losses_equal_plain_detectron2_bit_for_bit(name: str) -> None:
    student, teacher, arguments = PAIRS[name]
    plain = tiny.step(student().train(), tiny.batch())
    model = tiny.pair(student(), teacher(), **arguments).train()
    losses = tiny.step(model, tiny.batch())
    assert tiny.equal({key: losses[key] for key in plain}, plain)
    extra = losses.keys() - plain.keys()
    terms = {"loss_tadf_neck", "loss_tadf_cls", "loss_tadf_box"}
    assert extra == ({"loss_tadf_neck"} if arguments is NECK_ONLY else terms)
    assert all(losses[key].dtype == torch.float32 for key in extra)


def test_polygon_masks_train_too() -> None:
    inputs = tiny.batch()
    for x in inputs:
        boxes = x["instances"].gt_boxes.tensor.tolist()
        x["instances"].gt_masks = PolygonMasks([[[a, b, c, b, c, d, a, d]] for a, b, c, d in boxes])
    cfg = tiny.rcnn_cfg(MODEL__MASK_ON=True)
    plain = tiny.step(tiny.build(cfg).train(), inputs)
    losses = tiny.step(tiny.pair(tiny.build(cfg), tiny.build(cfg, 1)).train(), inputs)
    assert torch.equal(losses["loss_mask"], plain["loss_mask"]) and plain["loss_mask"] > 0


def test_evaluation_is_the_students() -> None:
    model = tiny.default_pair().eval()
    with torch.no_grad():
        ours, own = model(tiny.batch()), model.student(tiny.batch())
    for a, b in zip(ours, own, strict=True):
        assert torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)
        assert torch.equal(a["instances"].scores, b["instances"].scores)


def test_attributes_of_the_student_are_found() -> None:
    model = tiny.default_pair()
    assert model.backbone is model.student.backbone
    assert model.device == torch.device("cpu")
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = model.no_such_thing


@pytest.mark.parametrize("name", ["retinanet", "fcos", "c4", "faster_rcnn"])
def test_a_pair_trains_and_the_student_comes_closer_to_the_teacher(name: str) -> None:
    student, teacher, arguments = PAIRS[name]
    history = train(tiny.pair(student(), teacher(), canonical_box_size=64, **arguments), 25)
    neck = [losses["loss_tadf_neck"] for losses in history]
    assert sum(neck[-4:]) < 0.8 * sum(neck[:4])


def test_a_config_builds_student_teacher_and_methods(tmp_path: Path) -> None:
    model = tiny.config_pair(
        tmp_path, tiny.rcnn_cfg(), tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), VIS_PERIOD=7
    )
    assert [m.name for m in model.methods] == ["TADF"]
    assert (model.log_period, model.vis_period) == (20, 7)
    assert tiny.equal(model.student.state_dict(), tiny.build(tiny.rcnn_cfg()).state_dict())
    assert model.methods[0].adapters["p2"].weight.shape == (12, 8, 3, 3)


def test_box_and_score_terms_on_a_retinanet_are_refused_with_the_keys_to_change(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError) as error:
        tiny.config_pair(tmp_path, tiny.retinanet_cfg(), tiny.retinanet_cfg())
    message = str(error.value)
    assert "TADF needs the signal roi of the student, which RetinaNet does not provide" in message
    for key in ("DISTILL.TADF.CLS_WEIGHT", "DISTILL.TADF.REG_WEIGHT"):
        assert key in message
    model = tiny.config_pair(tmp_path, tiny.retinanet_cfg(), tiny.retinanet_cfg(), **NECK_ONLY_KEYS)
    assert "loss_tadf_neck" in tiny.step(model, tiny.batch())


def test_a_dense_teacher_of_a_two_stage_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="roi of the teacher, which RetinaNet .*CONFIG_FILE"):
        tiny.config_pair(tmp_path, tiny.rcnn_cfg(), tiny.retinanet_cfg())


def test_methods_without_a_teacher_are_refused() -> None:
    method = tiny.default_pair().methods[0]
    with pytest.raises(ValueError, match="need a teacher"):
        Distiller(student=tiny.build_fcos(), methods=[method])


def test_pairs_without_a_common_stride_are_refused(tmp_path: Path) -> None:
    teacher = tiny.c4_cfg()
    student = tiny.rcnn_cfg(**tiny.TWO_LEVELS)
    with pytest.raises(ValueError, match="no stride is common .*p2 at stride 4.*res4 at stride 16"):
        tiny.config_pair(tmp_path, student, teacher)


def test_the_schedule_weighs_the_methods_terms_by_the_stored_iteration() -> None:
    model = tiny.default_pair(schedule=Schedule("linear", max_iter=10))
    start = tiny.step(model, tiny.batch())
    torch.manual_seed(0)
    with EventStorage(start_iter=4):  # as in a run that was resumed
        later = model(tiny.batch())
    for key, loss in start.items():
        factor = 0.6 if key.startswith("loss_tadf") else 1.0
        torch.testing.assert_close(later[key], loss * factor)


def test_diagnostics_are_written_in_every_log_period_and_are_no_losses() -> None:
    model = tiny.default_pair(log_period=3, schedule=Schedule("linear", max_iter=10))
    names = {"factor", "mask_mean", "num_foreground", "gate_cls", "gate_box"}
    with EventStorage() as storage:
        for _ in range(6):
            losses = model(tiny.batch())
            storage.step()
        written = {k for k in storage.histories() if k.startswith("tadf/")}
        assert written == {f"tadf/{name}" for name in names}
        for name in names:
            assert [i for _, i in storage.histories()[f"tadf/{name}"].values()] == [2, 5]
        assert storage.histories()["tadf/factor"].values() == [(0.8, 2), (0.5, 5)]
        assert storage.histories()["tadf/gate_cls"].latest() == 1
        assert 0 <= storage.histories()["tadf/gate_box"].latest() <= 1
        assert storage.histories()["tadf/num_foreground"].latest() >= 3
    assert all(key.startswith("loss_") for key in losses)


def test_a_picture_is_put_in_every_visualization_period() -> None:
    model = tiny.default_pair(vis_period=2)
    inputs = [tiny.example([[8, 8, 40, 48]], (48, 64)), *tiny.batch()]
    shown = []
    with EventStorage() as storage:
        for _ in range(4):
            model(inputs)
            shown += [(i, x) for name, x, i in storage._vis_data if name == "tadf/picture"]
            storage.clear_images()
            storage.step()
    assert [i for i, _ in shown] == [0, 2]
    assert {(x.shape, str(x.dtype)) for _, x in shown} == {((3, 8 * 48, 8 * 128), "uint8")}

"""The whole: a student's losses stay its own, its checkpoint too, and nothing goes without gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from torch import nn

from distill import Distiller
from distill.schedules import Schedule

NECK_ONLY = {"cls_weight": 0, "reg_weight": 0}
NECK_ONLY_KEYS = {"DISTILL__TADF__CLS_WEIGHT": 0.0, "DISTILL__TADF__REG_WEIGHT": 0.0}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


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


def config_pair(folder: Path, student: CfgNode, teacher: CfgNode, **changes: Any) -> Distiller:
    reference = tiny.save_teacher(folder, teacher)
    return tiny.build(tiny.distilled(student, **reference, **changes)).train()


# ------------------------------------------------------------- the student's own losses


@pytest.mark.parametrize("mask_on", [False, True])
def test_without_methods_twenty_iterations_equal_plain_detectron2_bit_for_bit(
    mask_on: bool,
) -> None:
    cfg = tiny.rcnn_cfg(MODEL__MASK_ON=mask_on)
    model = tiny.build(tiny.distilled(cfg, DISTILL__METHODS=()))
    assert isinstance(model, Distiller) and model.teacher is None and model.methods == []
    history = train(model, 20)
    assert history == train(tiny.build(cfg), 20)
    assert ("loss_mask" in history[0]) == mask_on
    # And it did train.
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
    assert equal({key: losses[key] for key in plain}, plain)
    extra = losses.keys() - plain.keys()
    terms = {"loss_tadf_neck", "loss_tadf_cls", "loss_tadf_box"}
    assert extra == ({"loss_tadf_neck"} if arguments is NECK_ONLY else terms)
    assert all(losses[key].dtype == torch.float32 for key in extra)


def test_polygon_masks_train_too() -> None:
    from detectron2.structures import PolygonMasks

    inputs = tiny.batch()
    for x in inputs:
        boxes = x["instances"].gt_boxes.tensor.tolist()
        x["instances"].gt_masks = PolygonMasks(
            [[[a, b, c, b, c, d, a, d]] for a, b, c, d in boxes]
        )
    cfg = tiny.rcnn_cfg(MODEL__MASK_ON=True)
    plain = tiny.step(tiny.build(cfg).train(), inputs)
    losses = tiny.step(tiny.pair(tiny.build(cfg), tiny.build(cfg, 1)).train(), inputs)
    assert torch.equal(losses["loss_mask"], plain["loss_mask"]) and plain["loss_mask"] > 0


def test_evaluation_is_the_students() -> None:
    model = tiny.default_pair().eval()
    with torch.no_grad():
        ours, own = model(tiny.batch()), model.student(tiny.batch())
    for a, b in zip(ours, own):
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


# ------------------------------------------------------------- building from a config


def test_a_config_builds_student_teacher_and_methods(tmp_path: Path) -> None:
    model = config_pair(
        tmp_path, tiny.rcnn_cfg(), tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), VIS_PERIOD=7
    )
    assert [m.name for m in model.methods] == ["TADF"]
    assert (model.log_period, model.vis_period) == (20, 7)
    assert equal(model.student.state_dict(), tiny.build(tiny.rcnn_cfg()).state_dict())
    assert model.methods[0].adapters["p2"].weight.shape == (12, 8, 3, 3)


def test_box_and_score_terms_on_a_retinanet_are_refused_with_the_keys_to_change(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError) as error:
        config_pair(tmp_path, tiny.retinanet_cfg(), tiny.retinanet_cfg())
    message = str(error.value)
    assert "TADF needs the signal roi of the student, which RetinaNet does not provide" in message
    for key in ("DISTILL.TADF.CLS_WEIGHT", "DISTILL.TADF.REG_WEIGHT"):
        assert key in message
    model = config_pair(tmp_path, tiny.retinanet_cfg(), tiny.retinanet_cfg(), **NECK_ONLY_KEYS)
    assert "loss_tadf_neck" in tiny.step(model, tiny.batch())


def test_a_dense_teacher_of_a_two_stage_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="roi of the teacher, which RetinaNet .*CONFIG_FILE"):
        config_pair(tmp_path, tiny.rcnn_cfg(), tiny.retinanet_cfg())


def test_methods_without_a_teacher_are_refused() -> None:
    method = tiny.default_pair().methods[0]
    with pytest.raises(ValueError, match="need a teacher"):
        Distiller(student=tiny.build_fcos(), methods=[method])


def test_pairs_without_a_common_stride_are_refused(tmp_path: Path) -> None:
    teacher = tiny.c4_cfg()
    student = tiny.rcnn_cfg(**tiny.TWO_LEVELS)
    with pytest.raises(ValueError, match="no stride is common .*p2 at stride 4.*res4 at stride 16"):
        config_pair(tmp_path, student, teacher)


# ------------------------------------------------------------- pairs that differ


def box_losses(model: Distiller) -> dict[str, torch.Tensor]:
    return {k: x for k, x in tiny.step(model, tiny.batch()).items() if k.startswith("loss_tadf")}


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.allclose(first[k], second[k], rtol=1e-4, atol=1e-6) for k in first
    )


def live_boxes(model: nn.Module, seed: int = 5) -> nn.Module:
    """Gives the box layer weights that move boxes, unlike those of its initialisation."""
    torch.manual_seed(seed)
    nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=1.0)
    return model


def teacher_pair(teacher: nn.Module, **arguments: Any) -> Distiller:
    return tiny.pair(tiny.build(tiny.rcnn_cfg()), teacher, reg_gate="none", **arguments).train()


def permuted_teacher(model: nn.Module, order: list[int]) -> dict[str, torch.Tensor]:
    """The state of a detector whose classes are in another order."""
    state = {k: x.clone() for k, x in model.state_dict().items()}
    head = "roi_heads.box_predictor."
    for name in ("weight", "bias"):
        scores, deltas = state[f"{head}cls_score.{name}"], state[f"{head}bbox_pred.{name}"]
        state[f"{head}cls_score.{name}"] = scores[[*order, len(order)]]
        by_class = deltas.view(len(order), 4, *deltas.shape[1:])
        state[f"{head}bbox_pred.{name}"] = by_class[order].flatten(0, 1)
    return state


def test_classes_in_another_order_are_mapped_by_name(tmp_path: Path) -> None:
    teacher = live_boxes(tiny.build(tiny.rcnn_cfg(), 1))
    found = {}
    for name, order in (("tiny_abc", [0, 1, 2]), ("tiny_cab", [2, 0, 1])):
        reference = tiny.save_teacher(tmp_path / name, tiny.rcnn_cfg(DATASETS__TRAIN=(name,)))
        state = permuted_teacher(teacher, order)
        torch.save({"model": state}, reference["DISTILL__TEACHER__WEIGHTS"])
        cfg = tiny.distilled(tiny.rcnn_cfg(), **reference, DISTILL__TADF__REG_GATE="none")
        model = tiny.build(cfg).train()
        found[name] = box_losses(model)
        if name == "tiny_cab":
            assert model.teacher.class_map.tolist() == [1, 2, 0]
            # Without the map the permutation would be felt.
            model.teacher.class_map = None
            assert not close(box_losses(model), found[name])
    assert close(found["tiny_abc"], found["tiny_cab"])
    assert found["tiny_abc"]["loss_tadf_box"] > 0


def test_a_teacher_that_knows_more_classes_is_accepted(tmp_path: Path) -> None:
    teacher = tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_zcab",), MODEL__ROI_HEADS__NUM_CLASSES=4)
    model = config_pair(tmp_path, tiny.rcnn_cfg(), teacher)
    assert model.teacher.class_map.tolist() == [2, 3, 1]
    assert tiny.step(model, tiny.batch())["loss_tadf_cls"] > 0


@pytest.mark.parametrize(
    ("dataset", "classes", "message"),
    [
        ("tiny_abd", 3, r"1 of the student's 3 classes \(cow\).*DISTILL.TEACHER.CLASSES"),
        ("tiny_unnamed", 4, "student predicts 3 classes and the teacher 4.*DATASETS.TRAIN"),
    ],
)
def test_classes_that_do_not_fit_are_refused(
    tmp_path: Path, dataset: str, classes: int, message: str
) -> None:
    teacher = tiny.rcnn_cfg(DATASETS__TRAIN=(dataset,), MODEL__ROI_HEADS__NUM_CLASSES=classes)
    with pytest.raises(ValueError, match=message):
        config_pair(tmp_path, tiny.rcnn_cfg(), teacher)
    # The neck knows no classes.
    config_pair(tmp_path, tiny.rcnn_cfg(), teacher, **NECK_ONLY_KEYS)


def test_the_teachers_class_names_can_be_given(tmp_path: Path) -> None:
    teacher = tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_abd",))
    names = ("bee", "ant", "cow")
    model = config_pair(tmp_path, tiny.rcnn_cfg(), teacher, DISTILL__TEACHER__CLASSES=names)
    assert model.teacher.class_map.tolist() == [1, 0, 2]


def test_given_class_names_of_another_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="DISTILL.TEACHER.CLASSES has 2 names.* predicts 3"):
        config_pair(
            tmp_path, tiny.rcnn_cfg(), tiny.rcnn_cfg(), DISTILL__TEACHER__CLASSES=("ant", "bee")
        )


def test_box_transforms_that_differ_give_the_loss_of_equal_ones() -> None:
    teacher = live_boxes(tiny.build(tiny.rcnn_cfg(), 1))
    expected = box_losses(teacher_pair(teacher))
    weights = (20.0, 30.0, 5.0, 2.5)  # of Detectron2's 10, 10, 5, 5
    other = tiny.build(tiny.rcnn_cfg(MODEL__ROI_BOX_HEAD__BBOX_REG_WEIGHTS=weights), 1)
    other.load_state_dict(teacher.state_dict())
    layer = other.roi_heads.box_predictor.bbox_pred
    scale = torch.tensor([2.0, 3.0, 1.0, 0.5]).repeat(tiny.NUM_CLASSES)
    with torch.no_grad():
        layer.weight *= scale[:, None]
        layer.bias *= scale
    assert close(box_losses(teacher_pair(other)), expected)
    assert expected["loss_tadf_box"] > 0


def test_class_agnostic_and_class_specific_boxes_are_compared() -> None:
    agnostic = {"MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True}
    teacher = live_boxes(tiny.build(tiny.rcnn_cfg(**agnostic), 1))
    expected = box_losses(teacher_pair(teacher))
    # The same boxes from a class-specific layer whose classes agree.
    specific = tiny.build(tiny.rcnn_cfg(), 1)
    state = teacher.state_dict()
    for name in ("weight", "bias"):
        key = f"roi_heads.box_predictor.bbox_pred.{name}"
        state[key] = torch.cat([state[key]] * tiny.NUM_CLASSES)
    specific.load_state_dict(state)
    assert close(box_losses(teacher_pair(specific)), expected)
    student = tiny.build(tiny.rcnn_cfg(**agnostic))
    losses = box_losses(tiny.pair(student, specific, reg_gate="none").train())
    assert losses["loss_tadf_box"] > 0


def test_a_teacher_of_the_other_channel_order_sees_the_same_image(tmp_path: Path) -> None:
    means = [100.0, 110.0, 120.0]
    model = tiny.build(tiny.rcnn_cfg(MODEL__PIXEL_MEAN=means), 1)
    expected = box_losses(teacher_pair(model))
    cfg = tiny.rcnn_cfg(MODEL__PIXEL_MEAN=means[::-1], INPUT__FORMAT="RGB")
    reference = tiny.save_teacher(tmp_path, cfg)
    state = model.state_dict()
    state["backbone.bottom_up.stem.conv.weight"] = state[
        "backbone.bottom_up.stem.conv.weight"
    ].flip(1)
    torch.save({"model": state}, reference["DISTILL__TEACHER__WEIGHTS"])
    changes = {"DISTILL__TADF__REG_GATE": "none"}
    ours = tiny.build(tiny.distilled(tiny.rcnn_cfg(), **reference, **changes)).train()
    ours.load_state_dict(teacher_pair(model).state_dict())
    assert close(box_losses(ours), expected)


def test_maps_that_differ_in_padding_are_compared_where_both_exist() -> None:
    student = tiny.build(tiny.rcnn_cfg(**tiny.TWO_LEVELS))
    teacher = tiny.build(tiny.rcnn_cfg(), 1)
    inputs = [tiny.example([[4, 4, 36, 36]], (40, 40))]
    model = tiny.pair(student, teacher, level_assignment="all", adapter="none").train()
    assert model.student.backbone.size_divisibility == 8
    assert model.teacher.model.backbone.size_divisibility == 16
    loss = tiny.step(model, inputs)["loss_tadf_neck"]
    # The same image with the padding written into it, for the student alone.
    from distill.losses import gaussian_box_mask, masked_imitation

    mine = student.backbone(student.preprocess_image(inputs).tensor)
    other = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    assert mine["p2"].shape[-2:] == (10, 10) and other["p2"].shape[-2:] == (12, 12)
    terms = []
    for name, size, stride in (("p2", 10, 4), ("p3", 5, 8)):
        mask = gaussian_box_mask(inputs[0]["instances"].gt_boxes.tensor, (size, size), stride)
        target = other[name][..., :size, :size]
        terms.append(masked_imitation(mine[name], target, mask[None, None]))
    torch.testing.assert_close(loss, 3 * torch.stack(terms).mean())


def test_levels_of_other_names_are_paired_by_stride() -> None:
    student = tiny.build(tiny.rcnn_cfg())
    teacher = tiny.build(tiny.c4_cfg(), 1)
    model = tiny.pair(student, teacher).train()
    assert [(x.student, x.teacher) for x in model.methods[0].levels] == [("p4", "res4")]
    assert set(tiny.step(model, tiny.batch())) >= {"loss_tadf_neck", "loss_tadf_cls"}


# ------------------------------------------------------------- checkpoints


def test_a_plain_detector_loads_the_checkpoint_of_a_distiller(tmp_path: Path) -> None:
    model = tiny.default_pair()
    DetectionCheckpointer(model, str(tmp_path)).save("model_final")
    plain = tiny.build(tiny.rcnn_cfg(), seed=9)
    assert not equal(plain.state_dict(), model.student.state_dict())
    DetectionCheckpointer(plain).load(str(tmp_path / "model_final.pth"))
    assert equal(plain.state_dict(), model.student.state_dict())


def test_a_distiller_loads_the_checkpoint_of_a_plain_detector(tmp_path: Path) -> None:
    plain = tiny.build(tiny.rcnn_cfg(), seed=9)
    DetectionCheckpointer(plain, str(tmp_path)).save("plain")
    model = tiny.default_pair()
    adapters = {k: x.clone() for k, x in model.distill.state_dict().items()}
    DetectionCheckpointer(model).load(str(tmp_path / "plain.pth"))
    assert equal(model.student.state_dict(), plain.state_dict())
    assert equal(model.distill.state_dict(), adapters)


def test_a_checkpoint_goes_round(tmp_path: Path) -> None:
    model = tiny.default_pair()
    DetectionCheckpointer(model, str(tmp_path)).save("model")
    other = tiny.default_pair()
    with torch.no_grad():
        for p in other.parameters():
            p += 1
    DetectionCheckpointer(other).load(str(tmp_path / "model.pth"))
    assert equal(other.state_dict(), model.state_dict())
    assert equal(tiny.step(other, tiny.batch()), tiny.step(model, tiny.batch()))


def test_keys_are_the_plain_detectors_and_distill() -> None:
    model = tiny.default_pair()
    keys = set(model.state_dict())
    assert {k for k in keys if not k.startswith("distill.")} == set(model.student.state_dict())
    prefixed = model.state_dict(prefix="module.")
    assert set(prefixed) == {f"module.{k}" for k in keys}


def test_a_strict_load_reports_keys_as_the_checkpoint_names_them() -> None:
    model = tiny.default_pair()
    state = model.state_dict()
    del state["backbone.fpn_lateral2.weight"]
    state["stranger"] = torch.zeros(1)
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["backbone.fpn_lateral2.weight"]
    assert result.unexpected_keys == ["stranger"]
    with pytest.raises(RuntimeError, match="stranger"):
        model.load_state_dict(state)


# ------------------------------------------------------------- gradients

NO_FOREGROUND = {
    "MODEL__ROI_HEADS__IOU_THRESHOLDS": [0.99],
    "MODEL__ROI_HEADS__PROPOSAL_APPEND_GT": False,
    "MODEL__MASK_ON": True,
}


@pytest.mark.parametrize("share", ["student", "teacher", "both"])
@pytest.mark.parametrize("inputs", ["normal", "one_image_empty", "all_empty", "no_foreground"])
def test_every_parameter_gets_a_finite_gradient(share: str, inputs: str) -> None:
    changes = NO_FOREGROUND if inputs == "no_foreground" else {"MODEL__MASK_ON": True}
    student = tiny.build(tiny.rcnn_cfg(**changes))
    teacher = tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1)
    model = tiny.pair(student, teacher, share=share, log_period=1).train()
    data = {
        "normal": tiny.batch(),
        "one_image_empty": [tiny.batch()[0], tiny.example([], seed=4)],
        "all_empty": tiny.empty_batch(),
        "no_foreground": tiny.batch(),
    }[inputs]
    with EventStorage() as storage:
        losses = model(data)
        count = storage.latest()["tadf/num_foreground"][0]
    assert (count > 0) == (inputs in ("normal", "one_image_empty"))
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("cls_gate", ["fg", "correct", "better"])
@pytest.mark.parametrize("reg_gate", ["proposal", "student", "none"])
@pytest.mark.parametrize("assignment", ["area", "all"])
def test_every_gate_leaves_a_gradient_everywhere(
    cls_gate: str, reg_gate: str, assignment: str
) -> None:
    model = tiny.default_pair(cls_gate=cls_gate, reg_gate=reg_gate, level_assignment=assignment)
    sum(tiny.step(model, tiny.batch()).values()).backward()
    assert tiny.without_gradient(model) == []


def test_the_adapters_get_a_zero_gradient_when_the_schedule_has_ended() -> None:
    model = tiny.default_pair(schedule=Schedule("linear", max_iter=5))
    with EventStorage(start_iter=5):
        losses = model(tiny.batch())
    assert losses["loss_tadf_off"] == 0
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert not any(p.grad.any() for p in model.distill.parameters())


def test_two_processes_have_the_gradients_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(tiny.neck_gradients, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert equal(first, second)
    alone = tiny.gradients_of_neck(tiny.neck_pair(), tiny.same_boxes())
    assert alone.keys() == first.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
    assert alone["distill.TADF.adapters.p2.weight"].any()
    assert alone["backbone.fpn_lateral2.weight" if "backbone.fpn_lateral2.weight" in alone
                 else "student.backbone.fpn_lateral2.weight"].any()


# ------------------------------------------------------------- schedules, diagnostics, pictures


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


def test_a_picture_is_put_in_every_visualisation_period() -> None:
    model = tiny.default_pair(vis_period=2)
    inputs = [tiny.example([[8, 8, 40, 48]], (48, 64)), *tiny.batch()]
    shown = []
    with EventStorage() as storage:
        for _ in range(4):
            model(inputs)
            shown += [(i, x) for name, x, i in storage._vis_data if name == "tadf/regions"]
            storage.clear_images()
            storage.step()
    assert [i for i, _ in shown] == [0, 2]
    assert {(x.shape, str(x.dtype)) for _, x in shown} == {((3, 48, 128), "uint8")}


# ------------------------------------------------------------- bad input


@pytest.mark.parametrize("share", ["student", "both"])
def test_boxes_without_area_and_three_hundred_boxes_are_digested(share: str) -> None:
    torch.manual_seed(0)
    corner = torch.rand(300, 2) * 50
    crowd = torch.cat([corner, corner + 1 + torch.rand(300, 2) * 12], 1).tolist()
    inputs = [tiny.example(crowd), tiny.example([[20, 20, 20, 20], [5, 30, 25, 30]], seed=1)]
    model = tiny.default_pair(share=share, vis_period=1, log_period=1)
    losses = tiny.step(model, inputs)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_an_image_of_nan_stops_as_in_plain_detectron2() -> None:
    inputs = tiny.batch()
    inputs[0]["image"] = torch.full((3, 64, 64), float("nan"))
    with pytest.raises(FloatingPointError, match="NaN"):
        tiny.step(tiny.default_pair(), inputs)


def test_a_teacher_that_is_not_finite_shows_in_the_loss_of_its_term() -> None:
    model = tiny.default_pair()
    with torch.no_grad():
        model.teacher.model.roi_heads.box_predictor.cls_score.bias.fill_(float("nan"))
    losses = tiny.step(model, tiny.batch())
    assert [k for k, x in losses.items() if not x.isfinite()] == ["loss_tadf_cls"]


def test_terms_are_float32_under_autocast() -> None:
    model = tiny.default_pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = tiny.step(model, tiny.batch())
    terms = {k: x for k, x in losses.items() if k.startswith("loss_tadf")}
    assert len(terms) == 3
    assert all(x.dtype == torch.float32 and x.isfinite() for x in terms.values())
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []

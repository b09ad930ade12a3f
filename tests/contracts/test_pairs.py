"""Teachers that differ in classes, boxes, channels and padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from torch import nn

from distill import Distiller
from distill.losses import gaussian_box_mask, masked_imitation

NECK_ONLY = {"cls_weight": 0, "reg_weight": 0}
NECK_ONLY_KEYS = {"DISTILL__TADF__CLS_WEIGHT": 0.0, "DISTILL__TADF__REG_WEIGHT": 0.0}


def box_losses(model: Distiller) -> dict[str, torch.Tensor]:
    return {k: x for k, x in tiny.step(model, tiny.batch()).items() if k.startswith("loss_tadf")}


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.allclose(first[k], second[k], rtol=1e-4, atol=1e-6) for k in first
    )


def live_boxes(model: nn.Module, seed: int = 5) -> nn.Module:
    """Gives the box layer weights that move boxes, unlike those of its initialization."""
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
    model = tiny.config_pair(tmp_path, tiny.rcnn_cfg(), teacher)
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
        tiny.config_pair(tmp_path, tiny.rcnn_cfg(), teacher)
    # The neck knows no classes.
    tiny.config_pair(tmp_path, tiny.rcnn_cfg(), teacher, **NECK_ONLY_KEYS)


def test_the_teachers_class_names_can_be_given(tmp_path: Path) -> None:
    teacher = tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_abd",))
    names = ("bee", "ant", "cow")
    model = tiny.config_pair(tmp_path, tiny.rcnn_cfg(), teacher, DISTILL__TEACHER__CLASSES=names)
    assert model.teacher.class_map.tolist() == [1, 0, 2]


def test_given_class_names_of_another_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="DISTILL.TEACHER.CLASSES has 2 names.* predicts 3"):
        tiny.config_pair(
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

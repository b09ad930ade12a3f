"""IDaDet from configs: its keys, what is refused, and which signals it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny, tiny_ida
from helpers.tiny_ida import LEVELS, Shown, ida, levels_of, proposals_of

from distill.methods import IDaDet, build_methods


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("FRACTION", 0.0, "FRACTION is 0.0; it must be above 0 and at most 1"),
        ("FRACTION", 2.0, "FRACTION is 2.0"),
        ("FRACTION", -0.6, "FRACTION is -0.6"),
        ("SELECTION", "odd", 'SELECTION is "odd"; choose one of discrepancy'),
        ("LOSS", "odd", 'LOSS is "odd"; choose one of entropy, l2, cosine, inner_product'),
        ("SUPPORT", "odd", 'SUPPORT is "odd"; choose one of crops, mask'),
        ("COMPARE", "odd", 'COMPARE is "odd"; choose one of auto, raw, adapted'),
        ("COMPARE", "raw", 'COMPARE is "raw", but the channels of student and teacher differ'),
        ("ADAPTER", "odd", 'ADAPTER is "odd"; choose one of conv3x3, conv1x1, none'),
        ("ADAPTER", "none", 'ADAPTER is "none", but level s4 has 4 channels in the student and 6'),
        ("POOL_LEVELS", "odd", 'POOL_LEVELS is "odd"; choose one of every, assigned, finest'),
        ("TEMPERATURE", 0.0, "TEMPERATURE is 0.0; it must be above 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_its_key(
    key: str, value: Any, message: str
) -> None:
    cfg = tiny.rcnn_cfg(**{f"DISTILL__IDaDet__{key}": value})
    with pytest.raises(ValueError) as error:
        build_methods(("IDaDet",), cfg, levels_of(4, 8, channels=(4, 6)))
    assert str(error.value).startswith(f"DISTILL.IDaDet.{message}")
    assert "\n" not in str(error.value)


def test_levels_of_different_channels_are_pooled_one_after_the_other_only() -> None:
    # As those of SSD are.
    levels = (*levels_of(8, channels=(6, 6)), *levels_of(16, channels=(4, 4)))
    with pytest.raises(ValueError, match=r'POOL_LEVELS is "assigned".*choose every or finest'):
        ida(levels, pool_levels="assigned")
    maps = {"s8": torch.randn(1, 6, 8, 14), "s16": torch.randn(1, 4, 4, 7)}
    proposals = proposals_of([[[8.0, 8, 60, 40], [30, 2, 90, 60]]])
    for pool_levels in ("every", "finest"):
        method = ida(levels, pool_levels=pool_levels)
        assert method(Shown(maps, proposals), Shown(maps, proposals)).losses["loss_idadet"] > 0


def test_keys_reach_the_method() -> None:
    keys = {"WEIGHT": 0.7, "LOSS": "l2", "SUPPORT": "mask", "COMPARE": "adapted", "TOPK": 9}
    cfg = tiny.rcnn_cfg(**{f"DISTILL__IDaDet__{k}": v for k, v in keys.items()})
    (method,) = build_methods(("IDaDet",), cfg, LEVELS)
    assert (method.weight, method.loss, method.support) == (0.7, "l2", "mask")
    assert not method.compares_raw and method.selector.topk == 9
    assert method.log_variance is None


@pytest.mark.parametrize(
    ("selection", "student", "teacher"),
    [
        ("discrepancy", {"features", "proposals"}, {"features", "proposals"}),
        ("random", {"features", "proposals"}, {"features", "proposals"}),
        ("all", {"features", "proposals"}, {"features", "proposals"}),
        ("objectness", {"features", "proposals"}, {"features", "proposals"}),
        ("ground_truth", {"features", "proposals"}, {"features"}),
        ("everywhere", {"features"}, {"features"}),
    ],
)
def test_signals_are_required_as_far_as_they_are_used(
    selection: str, student: set[str], teacher: set[str]
) -> None:
    method = ida(LEVELS, selection=selection)
    assert method.requires == student and method.teacher_requires == teacher
    assert "DISTILL.IDaDet.SELECTION" in method.remedy


# ------------------------------------------------------------- pairs


def test_a_config_builds_the_pair_and_its_defaults_train(tmp_path: Path) -> None:
    teacher = tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12)
    names = {"DISTILL__METHODS": ("IDaDet",)}
    model = tiny.config_pair(tmp_path, tiny.retinanet_cfg(), teacher, **names)
    (method,) = model.methods
    assert type(method) is IDaDet and not method.compares_raw
    losses = tiny.step(model, tiny.batch())
    assert losses["loss_idadet"] > 0
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("FRACTION", 2.0, "DISTILL.IDaDet.FRACTION is 2.0"),
        ("ADAPTER", "none", 'DISTILL.IDaDet.ADAPTER is "none", but level p2 has 8 channels'),
        ("COMPARE", "raw", 'DISTILL.IDaDet.COMPARE is "raw", but the channels'),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    teacher = tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12)
    changes = {"DISTILL__METHODS": ("IDaDet",), f"DISTILL__IDaDet__{key}": value}
    with pytest.raises(ValueError) as error:
        tiny.config_pair(tmp_path, tiny.rcnn_cfg(), teacher, **changes)
    assert str(error.value).startswith(message)


def test_a_student_without_boxes_is_refused_unless_all_is_imitated() -> None:
    student = tiny.rcnn_cfg(MODEL__META_ARCHITECTURE="ProposalNetwork")
    teacher = tiny.build(tiny.rcnn_cfg(), 1)
    with pytest.raises(
        ValueError, match=r"signal proposals of the student.*SELECTION to everywhere"
    ):
        tiny_ida.ida_pair(tiny.build(student), teacher)
    tiny_ida.ida_pair(tiny.build(student), teacher, selection="everywhere")
    # A teacher's boxes are needed only where they are selected among.
    with pytest.raises(ValueError, match="signal proposals of the teacher"):
        tiny_ida.ida_pair(teacher, tiny.build(student))


def test_a_teacher_whose_images_cannot_be_prepared_apart_is_refused() -> None:
    teacher = tiny.build(tiny.rcnn_cfg(MODEL__META_ARCHITECTURE="ProposalNetwork"), 1)
    with pytest.raises(ValueError, match=r"ProposalNetwork cannot be a teacher.*CONFIG_FILE"):
        tiny_ida.ida_pair(tiny.build(tiny.rcnn_cfg()), teacher, selection="everywhere")

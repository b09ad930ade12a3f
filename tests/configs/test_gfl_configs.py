"""The configs of GFL and ATSS are what was published, and those of the digits train."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny
from helpers.recipes import ROOT, build, load, load_at_random_weights

from distill.views.dense_pairs import check_dense_pair

COCO = ROOT / "configs" / "coco"
DIGITS = ROOT / "configs" / "digits"
PARAMETERS = {"gfl_teacher": 1_545_297, "gfl_student": 167_577, "atss_student": 149_370}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_digits_config_builds_a_detector_of_the_promised_size(name: str) -> None:
    cfg = load_at_random_weights(DIGITS / f"{name}.yaml")
    assert sum(p.numel() for p in build(cfg).parameters()) == PARAMETERS[name]
    assert cfg.OUTPUT_DIR == f"output/digits/{name}" and cfg.INPUT.RANDOM_FLIP == "none"


@pytest.mark.parametrize("name", ["gfl_student", "atss_student"])
def test_a_student_of_the_digits_takes_a_step(name: str) -> None:
    model = build(load_at_random_weights(DIGITS / f"{name}.yaml")).train()
    losses = tiny.step(model, tiny.batch())
    sum(losses.values()).backward()
    assert losses["loss_box_reg"] > 0 and tiny.without_gradient(model) == []


def test_the_digits_detectors_see_the_same_grid() -> None:
    teacher, *students = (
        build(load_at_random_weights(DIGITS / f"{name}.yaml")) for name in PARAMETERS
    )
    for student in students:
        check_dense_pair(student, teacher)


def test_gfl_on_coco_is_laid_out_as_published() -> None:
    model = build(load_at_random_weights(COCO / "gfl_R_18_FPN_1x.yaml"))
    assert list(model.anchor_generator.strides) == [8, 16, 32, 64, 128]
    sizes = [(x[:, 2] - x[:, 0]).tolist() for x in model.anchor_generator.cell_anchors]
    assert sizes == [[8 * stride] for stride in (8, 16, 32, 64, 128)]
    groups = [m.num_groups for m in model.head.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert groups == [32] * 8
    assert model.head.bbox_pred.out_channels == 68 and model.head.cls_score.out_channels == 80
    weights = model.cls_loss_weight, model.box_loss_weight, model.dfl_loss_weight
    assert weights == (1.0, 2.0, 0.25) and model.quality_beta == 2.0
    assert (model.topk, model.test_score_thresh, model.test_nms_thresh) == (9, 0.05, 0.6)
    assert (model.test_topk_candidates, model.max_detections_per_image) == (1000, 100)


def test_schedules_are_those_of_their_names() -> None:
    for depth in (18, 34, 50, 101):
        cfg = load(COCO / f"gfl_R_{depth}_FPN_1x.yaml")
        assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == (
            90000,
            0.01,
            16,
        )
        assert cfg.MODEL.RESNETS.DEPTH == depth
    for depth in (50, 101):
        short, long = (load(COCO / f"gfl_R_{depth}_FPN_{n}x.yaml") for n in (1, 2))
        assert long.SOLVER.MAX_ITER == 2 * short.SOLVER.MAX_ITER
        assert long.SOLVER.STEPS == tuple(2 * step for step in short.SOLVER.STEPS)
        assert long.MODEL == short.MODEL


def test_atss_on_coco_differs_from_gfl_in_the_detector_alone() -> None:
    atss, gfl = (load(COCO / f"{name}_R_50_FPN_1x.yaml") for name in ("atss", "gfl"))
    assert atss.MODEL.META_ARCHITECTURE == "ATSS"
    gfl.MODEL.META_ARCHITECTURE, gfl.OUTPUT_DIR = "ATSS", atss.OUTPUT_DIR
    assert atss == gfl

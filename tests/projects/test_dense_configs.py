"""The recipes of ADL and BCKD: every one trains a step, with the papers' schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import tiny
from helpers.recipes import ROOT, build, load, load_at_random_weights

OVERLAYS = [
    path
    for name in ("ADL", "BCKD")
    for path in sorted((ROOT / "projects" / name).glob("configs/*"))
]


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_recipe_trains_a_step_on_random_images(path: Path) -> None:
    cfg = load_at_random_weights(path)
    model = build(cfg)
    size = (96, 96) if path.name.startswith("digits") else (64, 96)
    inputs = [tiny.example([[8, 8, 40, 48], [50, 6, 90, 60]], size=size, seed=i) for i in range(2)]
    losses = tiny.step(model, inputs)
    names = {"ADL": {"loss_adl"}, "BCKD": {"loss_bckd_cls", "loss_bckd_loc"}}
    assert {x for x in losses if x.startswith(("loss_adl", "loss_bckd"))} == names[
        cfg.DISTILL.METHODS[0]
    ]
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    assert [name for name, p in trained.items() if not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", ["coco_retinanet_R_50", "coco_retinanet_R_50_semi"])
def test_adl_on_coco_has_the_schedule_of_its_release(name: str) -> None:
    cfg = load(ROOT / f"projects/ADL/configs/{name}.yaml")
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == (0.01, 16)
    assert (cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER) == ((180000, 240000), 270000)
    assert (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST) == ((600,), 600)
    unlabeled = ("coco_2017_unlabeled",) if name.endswith("semi") else ()
    assert cfg.DATASETS.UNLABELED == unlabeled


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_bckd_on_coco_trains_gfl_at_1x_under_a_resnet_101(depth: int) -> None:
    cfg = load(ROOT / f"projects/BCKD/configs/coco_gfl_R_{depth}.yaml")
    teacher = load(ROOT / cfg.DISTILL.TEACHER.CONFIG_FILE)
    assert (cfg.MODEL.RESNETS.DEPTH, teacher.MODEL.RESNETS.DEPTH) == (depth, 101)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (90000, (60000, 80000))
    assert cfg.DISTILL.TEACHER.WEIGHTS == f"{teacher.OUTPUT_DIR}/model_final.pth"
    node = cfg.DISTILL.BCKD
    assert (node.CLS_WEIGHT, node.LOC_WEIGHT, node.IOU_TYPE) == (1.0, 4.0, "giou")

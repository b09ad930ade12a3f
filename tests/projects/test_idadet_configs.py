"""The recipes of IDa-Det say what the paper's release says, and train."""

from __future__ import annotations

from typing import Any

import pytest
from detectron2.config import CfgNode
from helpers import tiny
from helpers.recipes import ROOT, build, load, load_at_random_weights

from distill.modeling.binary import BinaryConv2d

CONFIGS = ROOT / "projects" / "IDaDet" / "configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def images(cfg: CfgNode) -> list[dict[str, Any]]:
    """Two images of noise, of one size where the detector wants it."""
    side = cfg.MODEL.SSD.IMAGE_SIZE
    is_ssd = cfg.DISTILL.STUDENT.META_ARCHITECTURE == "SSD"
    first, second = ((side, side),) * 2 if is_ssd else ((96, 128), (64, 96))
    return [
        tiny.example([[16, 16, 60, 90]], size=first, seed=0),
        tiny.example([[4, 20, 30, 60], [30, 4, 90, 60]], size=second, seed=1),
    ]


def test_there_is_a_recipe_for_every_detector_and_dataset() -> None:
    detectors = ("faster_rcnn_bir18", "faster_rcnn_bir34", "ssd300_bivgg16")
    large = {f"{data}_{name}" for data in ("voc", "coco") for name in detectors}
    assert set(RECIPES) == large | {"digits_faster_rcnn_bir18", "digits_ssd_1bit"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_one_step_of_a_1_bit_student(name: str) -> None:
    cfg = load_at_random_weights(CONFIGS / f"{name}.yaml")
    model = build(cfg)
    binary = [x for x in model.student.modules() if isinstance(x, BinaryConv2d)]
    assert binary and all(x.binarize_weights and x.binarize_activations for x in binary)
    assert not any(isinstance(x, BinaryConv2d) for x in model.teacher.model.modules())
    losses = tiny.step(model.train(), images(cfg))
    assert losses["loss_idadet"] > 0
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, p in trained.items() if not p.grad.isfinite().all()] == []
    assert any(key.startswith("distill.") for key in trained)


@pytest.mark.parametrize("depth", [18, 34])
def test_voc_has_the_schedule_sizes_and_clipping_of_the_release(depth: int) -> None:
    cfg = load(CONFIGS / f"voc_faster_rcnn_bir{depth}.yaml")
    solver = cfg.SOLVER
    assert (solver.BASE_LR, solver.MOMENTUM, solver.WEIGHT_DECAY) == (0.004, 0.9, 1e-4)
    assert (solver.WARMUP_ITERS, solver.WARMUP_FACTOR, solver.IMS_PER_BATCH) == (200, 1e-3, 4)
    clip = solver.CLIP_GRADIENTS
    assert (clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE) == (
        True,
        "full_model",
        35.0,
        2.0,
    )
    epoch = 3 * 16551 / 4
    assert solver.MAX_ITER == round(12 * epoch)
    assert solver.STEPS == (int(8 * epoch), int(11 * epoch))
    assert cfg.INPUT.MIN_SIZE_TRAIN == (400, 600, 900)
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (600, 1000)
    assert cfg.INPUT.FORMAT == "RGB" and cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53]
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2 and cfg.MODEL.BINARY.NORM == "FrozenStatsBN"
    assert cfg.MODEL.RESNETS.DEPTH == depth
    assert cfg.DATASETS.TEST == ("voc_2007_test",)


@pytest.mark.parametrize("name", ["voc_faster_rcnn_bir18", "voc_faster_rcnn_bir34"])
def test_voc_students_start_from_what_pre_training_leaves(name: str) -> None:
    own = load(CONFIGS / f"{name}.yaml").MODEL.WEIGHTS
    pretraining = load(ROOT / "configs" / "pretrain" / f"imagenet_{name.split('_')[-1]}.yaml")
    assert own == f"{pretraining.OUTPUT_DIR}/backbone.pth"


def test_overlays_refer_to_the_weights_that_training_their_teacher_leaves() -> None:
    for name in RECIPES:
        node = load(CONFIGS / f"{name}.yaml").DISTILL.TEACHER
        if not node.CONFIG_FILE.startswith("model_zoo://"):
            folder = load(ROOT / node.CONFIG_FILE).OUTPUT_DIR
            assert node.WEIGHTS == f"{folder}/model_final.pth"


def test_students_of_one_step_distil_their_finest_level() -> None:
    ssd = [name for name in RECIPES if "ssd" in name]
    assert {load(CONFIGS / f"{name}.yaml").DISTILL.IDaDet.POOL_LEVELS for name in ssd} == {"finest"}

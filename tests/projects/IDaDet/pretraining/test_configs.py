"""The configs under configs/pretrain train the backbones of the detectors they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone
from pretraining.classifier import BackboneClassifier
from pretraining.digit_crops import CROP_SIZE
from pretraining.steps import BACKBONE_FILE, step_configs
from pretraining.teacher import without_teacher
from torch import nn

from distill import add_distill_config

ROOT = Path(__file__).parents[4]
DETECTORS = {
    "digits_bir18": "configs/digits/faster_rcnn_bir18.yaml",
    "imagenet_bir18": "configs/voc/faster_rcnn_bir18.yaml",
    "imagenet_bir34": "configs/voc/faster_rcnn_bir34.yaml",
    "imagenet_bivgg16": "configs/voc/ssd300_bivgg16.yaml",
}


def _load(path: Path) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.merge_from_file(str(path))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def _pretraining(name: str) -> CfgNode:
    return _load(ROOT / "configs" / "pretrain" / f"{name}.yaml")


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    """Without the counters, which frozen normalization lacks."""
    state = network.state_dict().items()
    return {key: x.shape for key, x in state if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", DETECTORS)
def test_the_backbone_and_the_pixels_are_those_of_the_detector(name):
    cfg, detector = _pretraining(name), _load(ROOT / DETECTORS[name])
    # Shapes need no values.
    with torch.device("meta"):
        model = BackboneClassifier(without_teacher(cfg))
        backbone = build_backbone(detector)
    trunk = backbone.vgg if "vgg" in name else backbone.bottom_up
    assert _shapes(model.trunk) == _shapes(trunk)
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        assert list(cfg.MODEL[key]) == list(detector.MODEL[key])
    assert cfg.INPUT.FORMAT == detector.INPUT.FORMAT
    assert detector.MODEL.WEIGHTS in ("", f"{cfg.OUTPUT_DIR}/{BACKBONE_FILE}")
    assert cfg.MODEL.BINARY.QUANTIZER == detector.MODEL.BINARY.QUANTIZER


@pytest.mark.parametrize(("depth", "convs"), [(18, 16), (34, 32)])
def test_the_imagenet_configs_pretrain_in_two_steps_with_decay_in_the_first(depth, convs):
    first, second = step_configs(_pretraining(f"imagenet_bir{depth}"))
    assert not first.MODEL.BINARY.WEIGHTS and second.MODEL.BINARY.WEIGHTS
    assert first.SOLVER.WEIGHT_DECAY == 1e-5 and second.SOLVER.WEIGHT_DECAY == 0
    with torch.device("meta"):
        model = BackboneClassifier(without_teacher(second))
    binary = [m for m in model.modules() if hasattr(m, "binarize_weights")]
    assert len(binary) == convs and model.linear.weight.shape == (1000, 512)


def test_the_teacher_of_the_digits_is_the_real_valued_twin():
    cfg, teacher = _pretraining("digits_bir18"), _pretraining("digits_r18")
    assert cfg.PRETRAIN.TEACHER.CONFIG_FILE == "configs/pretrain/digits_r18.yaml"
    assert cfg.PRETRAIN.TEACHER.WEIGHTS == f"{teacher.OUTPUT_DIR}/model_final.pth"
    (step,) = step_configs(teacher)
    assert not step.MODEL.BINARY.WEIGHTS and not step.MODEL.BINARY.ACTIVATIONS
    assert teacher.MODEL.SLIM == cfg.MODEL.SLIM
    assert cfg.PRETRAIN.CROP_SIZE == CROP_SIZE and cfg.INPUT.RANDOM_FLIP == "none"

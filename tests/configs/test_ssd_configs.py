"""The SSD configs build the detectors they promise."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from helpers.recipes import ROOT, load

from distill.modeling.ssd import SSD

CONFIGS = ROOT / "configs"

PARAMETERS = {
    "voc/ssd300_vgg16": 26_285_486,
    "voc/ssd300_bivgg16": 32_211_822,
    "coco/ssd300_vgg16": 34_305_206,
    "coco/ssd300_bivgg16": 40_231_542,
    "digits/ssd_teacher": 1_958_391,
    "digits/ssd_student": 197_935,
    "digits/ssd_student_1bit": 257_431,
}


def build(cfg: CfgNode) -> SSD:
    """The detector without storage."""
    with torch.device("meta"):
        return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_config_builds_a_detector_of_the_promised_size(name: str) -> None:
    cfg = load(CONFIGS / f"{name}.yaml")
    assert sum(p.numel() for p in build(cfg).parameters()) == PARAMETERS[name]
    assert cfg.OUTPUT_DIR == f"output/{name}"


@pytest.mark.parametrize(("name", "first", "classes"), [("voc", 30, 20), ("coco", 21, 80)])
def test_ssd300_differs_between_datasets_in_anchors_and_classes(
    name: str, first: float, classes: int
) -> None:
    cfg = load(CONFIGS / f"{name}/ssd300_vgg16.yaml")
    model = build(cfg)
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES[0] == first and model.num_classes == classes
    assert model.anchor_generator.num_anchors == [4, 6, 6, 6, 4, 4]
    assert model.anchor_generator.offset == 0.5
    assert cfg.INPUT.AUGMENTATION == "ssd" and cfg.SOLVER.IMS_PER_BATCH == 32
    assert max(cfg.SOLVER.STEPS) < cfg.SOLVER.MAX_ITER


@pytest.mark.parametrize("name", ["digits/ssd_student", "digits/ssd_student_1bit"])
def test_teacher_and_student_see_the_same_digits_levels_and_anchors(name: str) -> None:
    teacher, student = (load(CONFIGS / f"{x}.yaml") for x in ("digits/ssd_teacher", name))
    for section in ("INPUT", "DATASETS", "DATALOADER"):
        assert teacher[section] == student[section]
    assert teacher.MODEL.ANCHOR_GENERATOR == student.MODEL.ANCHOR_GENERATOR
    assert student.MODEL.ANCHOR_GENERATOR.OFFSET == 0.5
    shapes = [build(cfg).backbone.output_shape() for cfg in (teacher, student)]
    assert [{n: s.stride for n, s in shape.items()} for shape in shapes] == [
        {"conv4_3": 8, "fc7": 16, "extra1": 32}
    ] * 2

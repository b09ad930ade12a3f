"""The digits configs build the detectors they promise, and these learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from distill import add_distill_config
from distill.data.digits import SPLITS
from distill.data.digits_render import load_sources, render_image

CONFIGS = Path(__file__).parents[2] / "configs" / "digits"
PARAMETERS = {
    "faster_rcnn_teacher": 2_196_569,
    "faster_rcnn_student": 218_753,
    "retinanet_teacher": 1_532_600,
    "retinanet_student": 161_216,
}


def load(name: str) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


@pytest.fixture(scope="module")
def batch() -> list[dict[str, Any]]:
    """Four images of the validation split, as Detectron2's mapper would give them (BGR)."""
    split = SPLITS["digits_val"]
    sources = load_sources(split.digits, split.photos)
    records = []
    for index in range(4):
        pixels, boxes = render_image(np.random.default_rng([split.seed, index]), sources)
        instances = Instances(pixels.shape[:2])
        instances.gt_boxes = Boxes(torch.tensor([box[:4] for box in boxes], dtype=torch.float32))
        instances.gt_classes = torch.tensor([box.label for box in boxes])
        image = torch.from_numpy(pixels[:, :, ::-1].transpose(2, 0, 1).copy())
        records.append({"image": image, "instances": instances, "height": 96, "width": 96})
    return records


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_config_builds_a_detector_of_the_promised_size(name: str) -> None:
    model = build_model(load(name))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_config_trains_on_the_built_in_dataset_with_its_own_output_folder(name: str) -> None:
    cfg = load(name)
    assert set(cfg.DATASETS.TRAIN + cfg.DATASETS.TEST) <= set(SPLITS)
    assert cfg.OUTPUT_DIR == f"output/digits/{name}"
    assert cfg.INPUT.RANDOM_FLIP == "none"


@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_teacher_and_student_see_the_same_images_and_levels(detector: str) -> None:
    teacher, student = load(f"{detector}_teacher"), load(f"{detector}_student")
    for section in ("INPUT", "DATASETS", "DATALOADER"):
        assert teacher[section] == student[section]
    assert teacher.MODEL.ANCHOR_GENERATOR == student.MODEL.ANCHOR_GENERATOR
    levels = build_model(teacher).backbone.output_shape()
    assert list(levels) == ["p2", "p3", "p4"]
    assert levels.keys() == build_model(student).backbone.output_shape().keys()


@pytest.mark.parametrize("name", ["faster_rcnn_student", "retinanet_student"])
def test_the_student_learns_and_every_parameter_takes_part(
    name: str, batch: list[dict[str, Any]]
) -> None:
    torch.manual_seed(0)
    model = build_model(load(name))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    with EventStorage():
        for _ in range(15):
            loss = sum(model(batch).values())
            optimizer.zero_grad()
            loss.backward()
            assert [n for n, p in model.named_parameters() if p.grad is None] == []
            optimizer.step()
            history.append(loss.item())
    assert np.mean(history[-3:]) < 0.7 * np.mean(history[:3])


@pytest.mark.parametrize("name", ["faster_rcnn_teacher", "retinanet_teacher"])
def test_inference_returns_boxes_inside_the_image(name: str, batch: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    model = build_model(load(name)).eval()
    with torch.no_grad():
        outputs = model(batch[:2])
    assert len(outputs) == 2
    for output in outputs:
        boxes = output["instances"].pred_boxes.tensor
        assert boxes.isfinite().all() and (boxes >= 0).all() and (boxes <= 96).all()

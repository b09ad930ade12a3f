"""Pascal VOC's evaluation, on a small dataset in its format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from detectron2.structures import Boxes, Instances
from PIL import Image

from distill import add_distill_config
from distill.engine.evaluation import build_evaluator

# Corners as Detectron2 reads them: VOC's first pixel is 1.
BOXES = {"000001": [("cat", (10, 10, 60, 50))], "000002": [("dog", (5, 20, 40, 70))]}
NAME = "tiny_voc_2007_test"


@pytest.fixture
def voc(tmp_path: Path):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("\n".join(BOXES) + "\n")
    for image, objects in BOXES.items():
        Image.new("RGB", (100, 80)).save(tmp_path / "JPEGImages" / f"{image}.jpg")
        described = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><truncated>0</truncated>"
            f"<pose>Left</pose><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for name, (x0, y0, x1, y1) in objects
        )
        (tmp_path / "Annotations" / f"{image}.xml").write_text(
            f"<annotation><filename>{image}.jpg</filename><size><width>100</width>"
            f"<height>80</height><depth>3</depth></size>{described}</annotation>"
        )
    register_pascal_voc(NAME, str(tmp_path), "test", 2007, class_names=("cat", "dog"))
    MetadataCatalog.get(NAME).evaluator_type = "pascal_voc"
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def results_of(name: str, tmp_path: Path, shift: float) -> dict[str, float]:
    """Evaluates the objects themselves, moved to the right, as detections."""
    cfg = get_cfg()
    add_distill_config(cfg)
    evaluator = build_evaluator(cfg, name, str(tmp_path / "out"))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        found = Instances((80, 100))
        boxes = torch.tensor([a["bbox"] for a in record["annotations"]]) + torch.tensor(
            [shift, 0.0, shift, 0.0]
        )
        found.pred_boxes = Boxes(boxes)
        found.scores = torch.full((len(boxes),), 0.9)
        found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        evaluator.process([record], [{"instances": found}])
    return evaluator.evaluate()["bbox"]


def test_perfect_detections_reach_full_average_precision(voc: str, tmp_path: Path) -> None:
    results = results_of(voc, tmp_path, shift=0.0)
    assert results["AP"] == results["AP50"] == results["AP75"] == pytest.approx(100.0)


def test_boxes_that_are_moved_fail_at_the_stricter_overlap_only(voc: str, tmp_path: Path) -> None:
    # Moved by 8 of 50 and of 35 pixels: overlaps 0.72 and 0.63.
    results = results_of(voc, tmp_path, shift=8.0)
    assert results["AP50"] == pytest.approx(100.0)
    assert results["AP75"] == 0.0

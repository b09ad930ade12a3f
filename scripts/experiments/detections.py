"""What a trained detector finds on an image, next to what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, BoxMode, pairwise_iou

from distill.config import add_distill_config, student_config
from distill.data.loader import build_mapper
from distill.engine import load_for_evaluation
from distill.utils.checkpoint import SafeCheckpointer
from distill.utils.config_files import merge_file

__all__ = ["Box", "Picture", "detect", "evenly_spaced", "mark_right", "true_boxes"]


@dataclass
class Box:
    """A box on an image.

    Attributes:
        corners: x0, y0, x1, y1 in pixels.
        label: name of the class.
        score: confidence in [0, 1]; None of a true box.
        right: whether it is a true box, or finds one.
    """

    corners: tuple[float, float, float, float]
    label: str
    score: float | None = None
    right: bool = True


@dataclass
class Picture:
    """The boxes of one image.

    Attributes:
        boxes: the boxes.
        missed: number of true boxes that none of them finds.
    """

    boxes: list[Box] = field(default_factory=list)
    missed: int = 0


def evenly_spaced(dataset: str, number: int) -> list[dict[str, Any]]:
    """Picks images of a registered dataset at equal distances, its first one included."""
    samples = DatasetCatalog.get(dataset)
    positions = np.linspace(0, len(samples), min(number, len(samples)), endpoint=False)
    return [samples[int(position)] for position in positions]


def true_boxes(dataset: str, sample: dict[str, Any]) -> list[Box]:
    """The annotated boxes of a sample in Detectron2's form."""
    names = MetadataCatalog.get(dataset).thing_classes
    boxes = []
    for annotation in sample["annotations"]:
        corners = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        boxes.append(Box(tuple(map(float, corners)), names[annotation["category_id"]]))
    return boxes


def detect(
    folder: Path, dataset: str, samples: Sequence[dict[str, Any]], threshold: float
) -> list[list[Box]]:
    """Runs the detector of a finished run directory.

    Args:
        folder: has config.yaml and model_final.pth.
        dataset: the registered dataset of the samples.
        samples: dicts in Detectron2's form.
        threshold: the least score of a detection that is kept.

    Returns:
        For each sample its detections, the surest first.
    """
    cfg = get_cfg()
    add_distill_config(cfg)
    merge_file(cfg, folder / "config.yaml", key="the run's")
    cfg = student_config(cfg)
    model = build_model(cfg).eval()
    load_for_evaluation(SafeCheckpointer(model), str(folder / "model_final.pth"), resume=False)
    mapper = build_mapper(cfg, is_train=False)
    names = MetadataCatalog.get(dataset).thing_classes
    found = []
    with torch.no_grad():
        for sample in samples:
            instances = model([mapper(sample)])[0]["instances"].to("cpu")
            instances = instances[instances.scores >= threshold]
            found.append(
                [
                    Box(tuple(corners), names[label], score)
                    for corners, label, score in zip(
                        instances.pred_boxes.tensor.tolist(),
                        instances.pred_classes.tolist(),
                        instances.scores.tolist(),
                        strict=True,
                    )
                ]
            )
    return found


def mark_right(detections: list[Box], truth: list[Box], least_iou: float = 0.5) -> Picture:
    """Marks the detections that find a true box, each true box once, as COCO's AP50 counts.

    Args:
        detections: the surest first; `right` is set in place.
        truth: the true boxes of the same image.
        least_iou: overlap with a true box of the same class that counts as finding it.

    Returns:
        The detections, and how many true boxes are missed.
    """
    free = set(range(len(truth)))
    ious = pairwise_iou(_boxes(detections), _boxes(truth))
    for index, detection in enumerate(detections):
        fitting = [
            other
            for other in free
            if truth[other].label == detection.label and ious[index, other] >= least_iou
        ]
        detection.right = bool(fitting)
        if fitting:
            free.remove(max(fitting, key=lambda other: ious[index, other]))
    return Picture(detections, missed=len(free))


def _boxes(boxes: list[Box]) -> Boxes:
    return Boxes(torch.tensor([box.corners for box in boxes]).reshape(-1, 4))

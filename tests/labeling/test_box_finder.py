"""A teacher's boxes are those of Detectron2's evaluation, above the limits that are asked for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances, RotatedBoxes
from helpers import tiny, tiny_labeling
from torch import nn

from distill.labeling.box_finder import BoxFinder, build_labeling_teacher, read_labeling_config
from distill.labeling.images import ImageListing, MappedImages
from distill.views.teacher import FrozenTeacher


class Fixed(nn.Module):
    """Finds the same boxes in every image."""

    def __init__(self, boxes: Any, scores: list[float], classes: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.found = Instances((50, 50))
        self.found.pred_boxes = boxes
        self.found.scores = torch.tensor(scores)
        self.found.pred_classes = torch.tensor(classes)

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        return [{"instances": self.found[: x["keep"]]} for x in batched_inputs]


def fixed(*scores: float, classes: list[int] | None = None, **arguments: Any) -> BoxFinder:
    boxes = Boxes(torch.tensor([[-0.001, 1.006, 2.5, 3.0]]).repeat(len(scores), 1))
    model = Fixed(boxes, list(scores), classes or [0] * len(scores))
    return BoxFinder(FrozenTeacher(model), **{"score_floor": 0.05, **arguments})


class Collector(DatasetEvaluator):
    def reset(self) -> None:
        self.found: list[list[dict]] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        self.found += [instances_to_coco_json(x["instances"].to("cpu"), 0) for x in outputs]


@pytest.mark.parametrize("make", [tiny.rcnn_cfg, tiny.retinanet_cfg])
def test_boxes_are_those_of_detectron2s_evaluation(tmp_path: Path, make: Any) -> None:
    opts = ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.0"]
    paths = tiny_labeling.write_noise(tmp_path / "images", 3)
    files = tiny_labeling.teacher(tmp_path, make())
    cfg = read_labeling_config(files["config_file"], opts, use_gpu=False)
    teacher = build_labeling_teacher(cfg, files["weights"], tiny_labeling.CLASSES, precision="auto")
    finder = BoxFinder(teacher, score_floor=0.0)
    images = MappedImages(
        ImageListing.from_folder(tmp_path / "images"), DatasetMapper(cfg, is_train=False)
    )
    records = [{"file_name": str(path), "image_id": 0} for path in paths]
    loader = build_detection_test_loader(dataset=records, mapper=DatasetMapper(cfg, is_train=False))
    collector = Collector()
    inference_on_dataset(finder.teacher.model, loader, collector)
    for number, expected in enumerate(collector.found):
        (rows,) = finder([images[number]])
        assert len(rows) == len(expected) > 0
        sizes = np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2]], axis=1)
        assert np.allclose(sizes, [x["bbox"] for x in expected], atol=0.0101)
        assert np.allclose(rows[:, 4], [x["score"] for x in expected], atol=5.1e-6)
        assert rows[:, 5].tolist() == [x["category_id"] for x in expected]


def test_corners_and_scores_are_rounded() -> None:
    ((row,),) = fixed(0.1234567)([{"keep": 1}])
    assert row.tolist() == [0, 1.01, 2.5, 3, 0.12346, 0]
    assert not np.signbit(row[0])


def test_boxes_stay_with_their_images() -> None:
    finder = fixed(0.9, 0.8, 0.7)
    found = finder([{"keep": 2}, {"keep": 0}, {"keep": 3}])
    assert [rows[:, 4].tolist() for rows in found] == [[0.9, 0.8], [], [0.9, 0.8, 0.7]]
    assert finder([]) == []


def test_boxes_below_the_floor_are_dropped() -> None:
    (rows,) = fixed(0.9, 0.3, 0.2999, score_floor=0.3)([{"keep": 3}])
    assert rows[:, 4].tolist() == [0.9, 0.3]


def test_a_limit_of_a_class_has_to_be_exceeded() -> None:
    limits = np.array([0.5, 0.2])
    scores, classes = (0.6, 0.5, 0.3, 0.2, 0.1), [0, 0, 1, 1, 1]
    (rows,) = fixed(*scores, classes=classes, limits=limits)([{"keep": 5}])
    assert rows[:, 4:].tolist() == [[0.6, 0], [0.3, 1]]


def test_boxes_that_are_not_finite_are_dropped() -> None:
    finder = fixed(0.9, float("nan"), 0.7)
    finder.teacher.model.found.pred_boxes.tensor[2, 1] = float("inf")
    (rows,) = finder([{"keep": 3}])
    assert rows[:, 4].tolist() == [0.9]


def test_rotated_boxes_are_refused() -> None:
    model = Fixed(RotatedBoxes(torch.ones(1, 5)), [0.9], [0])
    with pytest.raises(ValueError, match="no upright boxes"):
        BoxFinder(FrozenTeacher(model), score_floor=0.05)([{"keep": 1}])


def test_augmentation_is_detectron2s(tmp_path: Path) -> None:
    tiny_labeling.write_noise(tmp_path / "images", 1)
    sizes = {"TEST__AUG__MIN_SIZES": (40, 60), "TEST__AUG__FLIP": True}
    cfg = tiny.rcnn_cfg(**sizes)
    teacher = FrozenTeacher(tiny.build(cfg), cfg=cfg)
    images = MappedImages(
        ImageListing.from_folder(tmp_path / "images"), DatasetMapper(cfg, is_train=False)
    )
    seen = []
    teacher.model.backbone.register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    (rows,) = BoxFinder(teacher, score_floor=0.0, tta=True)([images[0]])
    assert len(rows) > 0 and (rows[:, 2:4] <= (60, 40)).all()
    # Two sizes, each mirrored too.
    assert sum(shape[0] for shape in seen) == 4


def test_augmentation_of_another_architecture_is_refused() -> None:
    cfg = tiny.retinanet_cfg()
    with pytest.raises(ValueError, match="--tta knows .* the teacher is a RetinaNet"):
        BoxFinder(FrozenTeacher(tiny.build(cfg), cfg=cfg), score_floor=0.05, tta=True)


def test_masks_are_not_computed_and_leave_the_boxes_as_they_are(tmp_path: Path) -> None:
    files = tiny_labeling.teacher(tmp_path, tiny.rcnn_cfg(MODEL__MASK_ON=True))
    assert not read_labeling_config(files["config_file"], [], use_gpu=False).MODEL.MASK_ON


def build(folder: Path, opts: list[str], names: tuple[str, ...]) -> BoxFinder:
    files = tiny_labeling.teacher(folder)
    cfg = read_labeling_config(files["config_file"], opts, use_gpu=False)
    teacher = build_labeling_teacher(cfg, files["weights"], names, precision="auto")
    return BoxFinder(teacher, score_floor=0.05)


def test_a_threshold_of_the_config_above_the_floor_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path, ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.05"], tiny_labeling.CLASSES)
    assert "SCORE_THRESH_TEST" not in caplog.text
    with caplog.at_level(logging.WARNING):
        build(tmp_path, ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.3"], tiny_labeling.CLASSES)
    assert "drops boxes of scores up to 0.3 itself" in caplog.text


def test_another_number_of_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="predicts 3 classes, but 2 names"):
        build(tmp_path, [], ("ant", "bee"))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.LOAD_PROPOSALS", "True"], "needs proposals"),
        (["MODEL.META_ARCHITECTURE", "Nothing"], "unknown MODEL.META_ARCHITECTURE Nothing"),
        (["MODEL.NOTHING", "1"], "overrides: there is no key MODEL.NOTHING"),
        (["MODEL.MASK_ON"], "overrides: 'MODEL.MASK_ON'.*no value"),
    ],
)
def test_a_config_that_cannot_label_is_refused(
    tmp_path: Path, opts: list[str], message: str
) -> None:
    files = tiny_labeling.teacher(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read_labeling_config(files["config_file"], opts, use_gpu=False)
    assert "\n" not in str(caught.value)

"""Unlabeled images get the boxes that the teacher finds in them, or are left out."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from helpers import tiny
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from distill.labeling.online_boxes import OnlinePseudoBoxes, build_online_pseudo_boxes
from distill.views.teacher import FrozenTeacher

_ANY_SCORE = {
    "MODEL__RETINANET__SCORE_THRESH_TEST": 0.0,
    "MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0,
    "TEST__DETECTIONS_PER_IMAGE": 8,
}
_ONLINE = {"DISTILL__UNLABELED__BOXES": "online", "DATASETS__UNLABELED": ("tiny_abc",)}


def _detector(family: str, seed: int) -> nn.Module:
    if family == "fcos":
        model = tiny.build_fcos(seed=seed)
        model.test_score_thresh, model.max_detections_per_image = 0.0, 8
        # Negative distances would be cut to 0: boxes without area.
        nn.init.constant_(model.head.bbox_pred.bias, 1.5)
        return model
    cfg = {"retinanet": tiny.retinanet_cfg, "rcnn": tiny.rcnn_cfg}[family]
    return tiny.build(cfg(**_ANY_SCORE), seed)


def _unlabeled(seed: int, size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    return {**tiny.example([], size, seed=seed), "pseudo": True}


def _mixed() -> list[dict[str, Any]]:
    """A labeled image and two without boxes."""
    return [*tiny.batch()[:1], _unlabeled(5), _unlabeled(6)]


def _alone(teacher: nn.Module, image: dict[str, Any]) -> Instances:
    """What a detector finds in one image, in pixels of the network's input."""
    with torch.no_grad():
        return teacher.eval()([{"image": image["image"]}])[0]["instances"]


def _best(teacher: nn.Module, image: dict[str, Any]) -> float:
    return _alone(teacher, image).scores.max().item()


def _pair(family: str, score_threshold: float, **arguments: Any) -> Any:
    student, teacher = _detector(family, 0), _detector(family, 1)
    model = tiny.pair(student, teacher, cls_weight=0, reg_weight=0, **arguments).train()
    model.pseudo_boxes = OnlinePseudoBoxes(score_threshold=score_threshold)
    return model


def _seen(model: Any, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The batch that reaches the student."""
    seen: list[dict[str, Any]] = []
    hook = model.student.register_forward_pre_hook(lambda _, args: seen.extend(args[0]))
    tiny.step(model, inputs)
    hook.remove()
    return seen


@pytest.mark.parametrize("family", ["retinanet", "fcos", "rcnn"])
def test_unlabeled_images_get_what_the_teacher_finds_by_itself(family: str) -> None:
    model, inputs = _pair(family, 0.0), _mixed()
    found = [_alone(model.teacher.model, x) for x in inputs[1:]]
    scores = torch.cat([x.scores for x in found]).sort().values
    # In the widest gap, as scores differ in the last digits between a batch and an image alone.
    gap = scores.diff().argmax()
    threshold = (scores[gap : gap + 2].sum() / 2).item()
    model.pseudo_boxes.score_threshold = threshold
    seen = _seen(model, inputs)
    assert seen[0]["instances"] is inputs[0]["instances"]
    expected = [x[(x.scores > threshold) & x.pred_boxes.nonempty(1e-5)] for x in found]
    assert [x["file_name"] for x in seen[1:]] == [
        x["file_name"] for x, y in zip(inputs[1:], expected, strict=True) if len(y)
    ]
    expected = [x for x in expected if len(x)]
    assert expected
    for image, boxes in zip(seen[1:], expected, strict=True):
        given = image["instances"]
        torch.testing.assert_close(
            given.gt_boxes.tensor, boxes.pred_boxes.tensor, atol=1e-3, rtol=1e-4
        )
        assert torch.equal(given.gt_classes, boxes.pred_classes)


@pytest.mark.parametrize("family", ["retinanet", "rcnn"])
def test_the_teacher_s_backbone_and_dense_head_run_once(family: str) -> None:
    model = _pair(family, 0.0)
    calls: list[str] = []
    for name in ("backbone", "head" if family == "retinanet" else "proposal_generator"):
        getattr(model.teacher.model, name).register_forward_hook(
            lambda *_, name=name: calls.append(name)
        )
    tiny.step(model, _mixed())
    assert sorted(calls) == sorted(set(calls))


@pytest.mark.parametrize("family", ["retinanet", "fcos", "rcnn"])
def test_an_image_without_boxes_is_left_out_for_student_and_methods(family: str) -> None:
    labeled, *pair = _mixed()
    scores = [_best(_detector(family, 1), x) for x in pair]
    better = pair[scores.index(max(scores))]
    inputs, threshold = [labeled, *pair], sum(scores) / 2
    seen = _seen(_pair(family, threshold), inputs)
    assert [x["file_name"] for x in seen] == [labeled["file_name"], better["file_name"]]
    # New models, as RetinaNet's loss depends on what it has seen before.
    losses = tiny.step(_pair(family, threshold), inputs)
    plain = _pair(family, threshold)
    plain.pseudo_boxes = None
    expected = tiny.step(plain, seen)
    assert losses.keys() == expected.keys()
    for name in losses:
        torch.testing.assert_close(losses[name], expected[name])


def test_a_batch_whose_largest_image_is_left_out_can_be_distilled() -> None:
    teacher = _detector("retinanet", 1)
    small, large = _unlabeled(5), _unlabeled(6, (96, 96))
    threshold = _best(teacher, small)
    large["image"] = torch.full_like(large["image"], 110)
    assert _best(teacher, large) < threshold
    model = _pair("retinanet", threshold - 1e-4)
    assert [x["file_name"] for x in _seen(model, [large, small])] == [small["file_name"]]
    assert torch.isfinite(sum(tiny.step(model, [large, small]).values()))


@pytest.mark.parametrize("family", ["retinanet", "fcos", "rcnn"])
def test_a_batch_without_any_box_gives_zeros_that_reach_every_parameter(family: str) -> None:
    model = _pair(family, 0.999)
    inputs = [_unlabeled(5), _unlabeled(6, (96, 64))]
    losses = tiny.step(model, inputs)
    assert losses.keys() == tiny.step(model, tiny.batch()).keys()
    assert all(x.item() == 0 for x in losses.values())
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(not p.grad.any() for p in model.parameters())


def test_a_batch_with_labeled_images_alone_is_left_as_it_is() -> None:
    model = _pair("rcnn", 0.0)
    inputs = tiny.batch()
    expected = tiny.step(model, inputs)
    model.pseudo_boxes = None
    assert tiny.equal(expected, tiny.step(model, inputs))


class _Fixed:
    """Signals of a teacher that says what it is told."""

    def __init__(self, *rows: list[tuple[list[float], float, int]]) -> None:
        self.rows = rows

    def detections(self, indices: list[int]) -> list[Instances]:
        return [self._instances(self.rows[i]) for i in indices]

    def select(self, indices: list[int]) -> _Fixed:
        return _Fixed(*(self.rows[i] for i in indices))

    def _instances(self, rows: list[tuple[list[float], float, int]]) -> Instances:
        boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
        return Instances(
            (64, 64),
            pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
            scores=torch.tensor(scores),
            pred_classes=torch.tensor(classes, dtype=torch.int64),
        )


_BOX = [4.0, 4.0, 20.0, 20.0]


def test_boxes_are_cut_at_the_border_and_those_beyond_it_dropped() -> None:
    rows = [([-5.0, 4.0, 20.0, 90.0], 0.9, 2), ([70.0, 70.0, 80.0, 80.0], 0.9, 1), (_BOX, 0.5, 0)]
    batch = OnlinePseudoBoxes(score_threshold=0.5).label([_unlabeled(5)], _Fixed(rows))
    (image,) = batch.inputs
    assert image["instances"].gt_boxes.tensor.tolist() == [[0.0, 4.0, 20.0, 64.0]]
    assert image["instances"].gt_classes.tolist() == [2]


def test_classes_are_the_student_s_and_others_are_dropped() -> None:
    labeler = OnlinePseudoBoxes(student_class=torch.tensor([-1, 2, 0]))
    rows = [(_BOX, 0.9, 0), (_BOX, 0.8, 1), (_BOX, 0.7, 2)]
    (image,) = labeler.label([_unlabeled(5)], _Fixed(rows)).inputs
    assert image["instances"].gt_classes.tolist() == [2, 0]
    assert not labeler.label([_unlabeled(5)], _Fixed(rows[:1])).usable


def test_boxes_an_image_and_images_left_out_are_counted_since_the_last_summary() -> None:
    labeler = OnlinePseudoBoxes()
    assert labeler.summary() == {}
    labeler.label([_unlabeled(5), _unlabeled(6)], _Fixed([(_BOX, 0.9, 0)] * 3, []))
    labeler.label([_unlabeled(5), tiny.example([])], _Fixed([(_BOX, 0.9, 0)], []))
    expected = {"pseudo/boxes_per_image": 4 / 3, "pseudo/skipped_images": 1.0}
    assert labeler.summary() == expected
    assert labeler.summary() == {}


def test_the_counts_reach_the_event_storage_at_the_log_period() -> None:
    model = _pair("retinanet", 0.0, log_period=2)
    with EventStorage() as storage:
        model(_mixed())
        assert "pseudo/boxes_per_image" not in storage.latest()
        storage.step()
        model(_mixed())
    assert storage.latest()["pseudo/boxes_per_image"][0] == 8
    assert storage.latest()["pseudo/skipped_images"][0] == 0


def test_a_hundred_iterations_without_a_box_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    labeler = OnlinePseudoBoxes()
    caplog.set_level(logging.WARNING, logger="distill.labeling.online_boxes")
    for _ in range(99):
        labeler.label([_unlabeled(5)], _Fixed([]))
    labeler.label([_unlabeled(5)], _Fixed([(_BOX, 0.9, 0)]))
    for _ in range(99):
        labeler.label([_unlabeled(5)], _Fixed([]))
        labeler.label([tiny.example([])], _Fixed([]))
    assert not caplog.records
    for _ in range(50):
        labeler.label([_unlabeled(5)], _Fixed([]))
    (record,) = caplog.records
    assert "lower DISTILL.UNLABELED.SCORE_THRESHOLD" in record.getMessage()


def test_a_config_with_boxes_online_gives_the_distiller_boxes_in_the_student_s_classes(
    tmp_path,
) -> None:
    student = tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_abc",))
    teacher = tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_cab",))
    model = tiny.config_pair(tmp_path, student, teacher, **_ONLINE)
    assert model.pseudo_boxes.student_class.tolist() == [2, 0, 1]
    assert model.pseudo_boxes.score_threshold == 0.5


def test_boxes_from_the_disk_leave_the_batches_alone(tmp_path) -> None:
    cached = {**_ONLINE, "DISTILL__UNLABELED__BOXES": "cached"}
    cfg = tiny.rcnn_cfg()
    assert tiny.config_pair(tmp_path, cfg, cfg, **cached).pseudo_boxes is None
    assert tiny.config_pair(tmp_path, cfg, cfg).pseudo_boxes is None


def test_a_teacher_that_does_not_detect_from_its_features_is_refused() -> None:
    class Other(nn.Module):
        num_classes = 3

    with pytest.raises(ValueError, match="BOXES online needs.*Other.*cached"):
        build_online_pseudo_boxes(tiny.rcnn_cfg(**_ONLINE), Other(), FrozenTeacher(Other()))

"""The same proposals seen by both ROI heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.modeling import StandardROIHeads
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils.events import EventStorage
from helpers import tiny
from torch import nn

from distill.views.sharing import SharedProposals, share_proposals
from distill.views.student import StudentSignals, record_student
from distill.views.teacher import FrozenTeacher, TeacherSignals


def signals_of(
    student: nn.Module, inputs: list[dict[str, Any]] | None = None
) -> tuple[StudentSignals, TeacherSignals]:
    inputs = inputs or tiny.batch()
    teacher = FrozenTeacher(tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1))
    torch.manual_seed(0)
    with EventStorage(), record_student(student.train(), inputs) as seen:
        student(inputs)
    return seen, teacher.signals(inputs)


def shared(
    source: str, inputs: list[dict[str, Any]] | None = None, **changes: Any
) -> tuple[SharedProposals, StudentSignals, TeacherSignals]:
    seen, teacher = signals_of(tiny.build(tiny.rcnn_cfg(**changes)), inputs)
    return share_proposals(seen, teacher, source), seen, teacher


def boxes_by_image(regions: SharedProposals, images: int = 2) -> list[Boxes]:
    return [Boxes(regions.boxes[regions.image_index == i]) for i in range(images)]


@pytest.mark.parametrize("source", ["student", "teacher", "both"])
def test_both_outputs_are_those_of_the_shared_boxes(source: str) -> None:
    regions, seen, teacher = shared(source)
    if source == "both":
        # The two tables lie one below the other, so that the images' boxes do not.
        order = torch.argsort(regions.image_index, stable=True)
    else:
        order = torch.arange(len(regions.boxes))
    boxes = boxes_by_image(regions)
    for outputs, again in (
        (regions.student, seen.run_roi_head(boxes)),
        (regions.teacher, teacher.run_roi_head(boxes)),
    ):
        torch.testing.assert_close(outputs.scores[order], again.scores)
        torch.testing.assert_close(outputs.deltas[order], again.deltas)
    assert regions.student.scores.requires_grad
    assert not regions.teacher.scores.requires_grad


def test_the_students_proposals_are_the_rows_it_was_trained_on() -> None:
    regions, seen, _ = shared("student")
    rows, start = [], 0
    for sampled in seen.sampled:
        kept = min(8, len(sampled))  # 16 an image, half of them foreground at most
        rows += range(start, start + kept)
        start += len(sampled)
    assert start > len(rows)
    everything = torch.cat([x.proposal_boxes.tensor for x in seen.sampled])
    assert torch.equal(regions.boxes, everything[rows])
    assert torch.equal(regions.classes, torch.cat([x.gt_classes for x in seen.sampled])[rows])
    assert torch.equal(regions.student.scores, seen.roi_outputs.scores[rows])
    assert torch.equal(regions.student.deltas, seen.roi_outputs.deltas[rows])
    truth = torch.cat([x.gt_boxes.tensor for x in seen.sampled])[rows]
    assert torch.equal(regions.gt_boxes, truth)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_all_of_the_foreground_is_kept(fraction: float) -> None:
    # Overlap of no account makes nearly every proposal foreground.
    regions, seen, _ = shared(
        "student",
        MODEL__ROI_HEADS__IOU_THRESHOLDS=[0.05],
        MODEL__ROI_HEADS__POSITIVE_FRACTION=fraction,
    )
    classes = torch.cat([x.gt_classes for x in seen.sampled])
    foreground = (classes >= 0) & (classes < tiny.NUM_CLASSES)
    assert regions.foreground.sum() == foreground.sum() > 0
    assert len(regions.boxes) <= 2 * int(16 * fraction)


def test_a_sampler_of_the_users_is_shared_whole() -> None:
    class Shuffled(StandardROIHeads):
        def _sample_proposals(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
            index, classes = super()._sample_proposals(*args)
            return index.flip(0), classes.flip(0)

    student = tiny.build(tiny.rcnn_cfg())
    student.roi_heads.__class__ = Shuffled
    seen, teacher = signals_of(student)
    regions = share_proposals(seen, teacher)
    assert len(regions.boxes) == sum(len(x) for x in seen.sampled)
    assert torch.equal(regions.student.scores, seen.roi_outputs.scores)


def test_boxes_are_those_that_were_pooled_where_training_replaces_them() -> None:
    student = tiny.build(tiny.rcnn_cfg(MODEL__ROI_BOX_HEAD__TRAIN_ON_PRED_BOXES=True))
    nn.init.constant_(student.roi_heads.box_predictor.bbox_pred.bias, 2.0)
    seen, teacher = signals_of(student)
    regions = share_proposals(seen, teacher)
    pooled = torch.cat([x.tensor[:8] for x in seen.roi_boxes])
    replaced = torch.cat([x.proposal_boxes.tensor[:8] for x in seen.sampled])
    assert torch.equal(regions.boxes, pooled) and not torch.equal(regions.boxes, replaced)


def test_the_teachers_proposals_are_labeled_by_the_students_rules() -> None:
    regions, seen, teacher = shared("teacher")
    for index, (x, proposals) in enumerate(zip(tiny.batch(), teacher.rpn_proposals, strict=True)):
        mine = regions.image_index == index
        candidates = torch.cat([proposals.proposal_boxes.tensor, x["instances"].gt_boxes.tensor])
        boxes = regions.boxes[mine]
        assert (boxes[:, None] == candidates).all(2).any(1).all()
        best, match = pairwise_iou(Boxes(boxes), x["instances"].gt_boxes).max(1)
        assert torch.equal(regions.foreground[mine], best >= 0.2)
        labels = torch.where(best >= 0.2, x["instances"].gt_classes[match], tiny.NUM_CLASSES)
        assert torch.equal(regions.classes[mine], labels)
    own = torch.cat([x.proposal_boxes.tensor for x in seen.sampled])
    assert not all((own == box).all(1).any() for box in regions.boxes)


def test_sampling_the_teachers_proposals_writes_no_log_entries() -> None:
    seen, teacher = signals_of(tiny.build(tiny.rcnn_cfg()))
    with EventStorage() as storage:
        share_proposals(seen, teacher, "both")
        assert not storage.histories()


def test_both_puts_the_students_above_the_teachers() -> None:
    seen, teacher = signals_of(tiny.build(tiny.rcnn_cfg()))
    tables = {}
    for source in ("student", "teacher", "both"):
        torch.manual_seed(1)
        tables[source] = share_proposals(seen, teacher, source)
    for name in ("boxes", "image_index", "classes", "gt_boxes", "foreground"):
        parts = [getattr(tables[source], name) for source in ("student", "teacher")]
        assert torch.equal(getattr(tables["both"], name), torch.cat(parts))


@pytest.mark.parametrize("source", ["student", "teacher", "both"])
def test_images_without_boxes_have_background_only(source: str) -> None:
    regions, _, _ = shared(source, tiny.empty_batch())
    assert len(regions.boxes) > 0
    assert not regions.foreground.any() and not regions.gt_boxes.any()
    assert set(regions.classes.tolist()) == {tiny.NUM_CLASSES}


def test_an_image_without_boxes_beside_one_with_boxes_keeps_its_own_rows() -> None:
    inputs = [tiny.example([], seed=3), tiny.batch()[0]]
    regions, _, _ = shared("student", inputs)
    assert not regions.foreground[regions.image_index == 0].any()
    assert regions.foreground[regions.image_index == 1].any()
    mine = regions.image_index == 1
    target = inputs[1]["instances"].gt_boxes.tensor
    assert (regions.gt_boxes[mine & regions.foreground] == target).all()


def test_an_unknown_source_is_refused() -> None:
    seen, teacher = signals_of(tiny.build(tiny.rcnn_cfg()))
    with pytest.raises(ValueError, match='SHARE is "none"; choose one of student, teacher, both'):
        share_proposals(seen, teacher, "none")

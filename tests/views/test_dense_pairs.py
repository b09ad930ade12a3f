"""Two dense heads at the same anchors: which are compared, and which pairs are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import tiny, tiny_dense
from torch import nn

from distill.views.dense_pairs import check_dense_pair, count_positives, pair_levels

K = tiny.NUM_CLASSES


def test_ignored_anchors_are_invalid_and_objects_positive() -> None:
    student, teacher = tiny_dense.signals(
        tiny_dense.retinanet(), tiny_dense.retinanet(1), tiny.batch()
    )
    labels = torch.full_like(student.anchor_labels, K)
    labels[0, :3] = torch.tensor([-1, 0, K - 1])
    labels[1, -1] = -1
    student.anchor_labels = labels
    pairs = list(pair_levels(student, teacher, mask_padding=False))
    valid = torch.cat([x.valid for x in pairs], 1)
    positive = torch.cat([x.positive for x in pairs], 1)
    assert torch.equal(valid, labels >= 0)
    assert positive.nonzero().tolist() == [[0, 1], [0, 2]]
    assert count_positives(student) == 2
    student.anchor_labels = torch.full_like(labels, K)
    assert count_positives(student) == 1


@pytest.mark.parametrize("mask_padding", [True, False])
def test_anchors_in_the_padding_are_invalid_by_key(mask_padding: bool) -> None:
    # Padded to 64 x 96: the first image is 50 x 90, the second 64 x 40.
    models = (tiny_dense.fcos(), tiny_dense.fcos(1))
    student, teacher = tiny_dense.signals(*models, tiny_dense.unequal_batch())
    first = next(pair_levels(student, teacher, mask_padding=mask_padding))
    # Points of stride 4 lie at 2, 6, 10, ...
    valid = first.valid.view(2, 16, 24)
    if mask_padding:
        expected = torch.zeros(2, 16, 24, dtype=torch.bool)
        expected[0, :12, :22] = True  # 2 + 4 * 11 = 46 < 50 and 2 + 4 * 21 = 86 < 90; 50, 90 not
        expected[1, :, :10] = True
        assert torch.equal(valid, expected)
    else:
        assert valid.all()


def test_a_teacher_that_pads_more_is_cropped_to_the_students_cells() -> None:
    student, teacher = tiny_dense.retinanet(), tiny_dense.retinanet(1)
    teacher.backbone._size_divisibility = 64
    inputs = [tiny.example([[4, 4, 30, 30]], (48, 80)), tiny.example([], (40, 80), seed=1)]
    seen, other = tiny_dense.signals(student, teacher, inputs)
    sizes = [x.size for x in pair_levels(seen, other)]
    assert sizes == [(12, 20), (6, 10), (3, 5)]
    assert other.dense().sizes == [(16, 32), (8, 16), (4, 8)]
    for pair in pair_levels(seen, other):
        assert torch.equal(pair.student.anchors, pair.teacher.anchors)
        assert pair.student.logits.shape == pair.teacher.logits.shape


def test_a_student_that_pads_more_keeps_its_labels_at_their_anchors() -> None:
    student, teacher = tiny_dense.retinanet(), tiny_dense.retinanet(1)
    student.backbone._size_divisibility = 64
    inputs = [tiny.example([[4, 4, 30, 30]], (48, 80))]
    seen, other = tiny_dense.signals(student, teacher, inputs)
    # Numbers in place of labels tell where each row comes from.
    count = seen.anchor_labels.shape[1]
    numbers = torch.arange(count)[None]
    anchors = torch.cat([x.anchors for x in seen.dense()])
    for pair in pair_levels(seen, other):
        assert torch.equal(anchors[pair.select(numbers)[0]], pair.student.anchors)


FAMILIES = ("one_anchor", "fcos", "gfl", "atss")


@pytest.mark.parametrize("student", FAMILIES)
@pytest.mark.parametrize("teacher", FAMILIES)
def test_families_of_one_anchor_a_cell_are_comparable(student: str, teacher: str) -> None:
    own, other = tiny_dense.DENSE[student](), tiny_dense.DENSE[teacher](1)
    check_dense_pair(own, other)
    seen, theirs = tiny_dense.signals(own, other, tiny.batch())
    for pair in pair_levels(seen, theirs):
        shape = (2, len(pair.student.anchors), 4)
        assert pair.student.boxes().shape == pair.teacher.boxes().shape == shape


def refusal(student: nn.Module, teacher: nn.Module) -> str:
    with pytest.raises(ValueError) as error:
        check_dense_pair(student, teacher)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_strides_are_refused() -> None:
    changes: dict[str, Any] = {
        **tiny.TWO_LEVELS,
        "MODEL__RETINANET__IN_FEATURES": ["p2", "p3"],
    }
    message = refusal(tiny_dense.retinanet(), tiny_dense.retinanet(**changes))
    assert "strides [4, 8, 16]" in message and "[4, 8]" in message and "IN_FEATURES" in message


def test_another_number_of_anchors_is_refused() -> None:
    message = refusal(tiny_dense.retinanet(), tiny_dense.fcos())
    assert "[3, 3, 3]" in message and "[1, 1, 1]" in message
    assert "MODEL.ANCHOR_GENERATOR.SIZES" in message


def test_anchors_that_differ_are_refused_where_a_cell_has_several() -> None:
    other = tiny_dense.retinanet(MODEL__ANCHOR_GENERATOR__SIZES=[[16], [24], [41]])
    message = refusal(tiny_dense.retinanet(), other)
    assert "stride 16 differ" in message and "MODEL.ANCHOR_GENERATOR.SIZES" in message


def test_another_offset_is_refused() -> None:
    other = tiny_dense.one_anchor(MODEL__ANCHOR_GENERATOR__OFFSET=0.0)
    message = refusal(other, tiny_dense.fcos())
    assert "centered 0.0 cells" in message and "MODEL.ANCHOR_GENERATOR.OFFSET" in message

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.modeling.dense.assigner import assign_anchors, find_candidates

# Six squares of 10 in a row, with centers at x = 5, 15, ..., 55, and another level of one of 20.
FINE = torch.tensor([[x, 0.0, x + 10, 10.0] for x in range(0, 60, 10)])
COARSE = torch.tensor([[0.0, -5, 20, 15]])


def padded(*images: list[list[float]]) -> tuple[Tensor, Tensor]:
    places = max(map(len, images)) + 1
    boxes = torch.zeros(len(images), places, 4)
    valid = torch.zeros(len(images), places, dtype=torch.bool)
    for row, image in enumerate(images):
        boxes[row, : len(image)] = torch.tensor(image).reshape(-1, 4)
        valid[row, : len(image)] = True
    return boxes, valid


def assigned(
    *images: list[list[float]], anchors: tuple[Tensor, ...] = (FINE,), topk: int = 9
) -> tuple[Tensor, list[list[int]]]:
    index, positive = assign_anchors(anchors, *padded(*images), topk)
    return index, [row.nonzero()[:, 0].tolist() for row in positive]


def test_candidates_are_the_nearest_of_each_level_by_their_centers() -> None:
    boxes = torch.tensor([[[21.0, 0, 31, 10], [0.0, 0, 9, 10]]])
    found = find_candidates([FINE, COARSE], boxes, topk=2)
    # Centers at x = 26 and x = 4.5; the coarse level has only one anchor.
    assert found.index.sort(dim=2).values.tolist() == [[[2, 3, 6], [0, 1, 6]]]


def test_the_threshold_is_mean_plus_sample_deviation_of_the_candidates_iou() -> None:
    found = find_candidates([FINE], torch.tensor([[[0.0, 0, 18, 10]]]), topk=3)
    # IoUs 10/18, 8/20 and 0.
    iou = [10 / 18, 8 / 20, 0.0]
    mean = sum(iou) / 3
    deviation = (sum((x - mean) ** 2 for x in iou) / 2) ** 0.5
    assert found.iou.sort(dim=2, descending=True).values[0, 0].tolist() == pytest.approx(iou)
    assert found.threshold.item() == pytest.approx(mean + deviation)


def test_candidates_at_or_above_the_threshold_are_positive() -> None:
    # IoUs 10/20, 10/20 and four of 0: mean 0.167, deviation 0.258.
    index, positives = assigned([[0, 0, 20, 10]])
    assert positives == [[0, 1]] and index.tolist() == [[0] * 6]
    # IoUs 10/16, 6/20 and four of 0: mean 0.154, deviation 0.260.
    assert assigned([[0, 0, 16, 10]])[1] == [[0]]


def test_an_object_that_all_its_candidates_fit_alike_may_get_none() -> None:
    # IoUs 1/2, 1/2, 0 and 0: mean 0.25, deviation 0.289.
    assert assigned([[0, 0, 20, 10]], topk=4)[1] == [[]]


def test_levels_contribute_candidates_though_only_one_fits() -> None:
    # IoU 1 with the coarse anchor, 1/4 with two of the fine ones.
    assert assigned([[0, -5, 20, 15]], anchors=(FINE, COARSE))[1] == [[6]]


def test_an_anchor_whose_center_lies_outside_the_box_is_not_positive() -> None:
    # An IoU of 1/2 with anchor 0 and 0 with the others; its center is 0.005 or 0.02 pixels inside.
    assert assigned([[4.995, 0, 10, 10]])[1] == [[]]
    assert assigned([[4.98, 0, 10, 10]])[1] == [[0]]


def test_an_anchor_claimed_by_two_goes_to_the_one_it_overlaps_most() -> None:
    # IoU with anchor 0 0.8 and 0.9, in either order.
    index, positives = assigned([[0, 0, 8, 10], [0, 0, 9, 10]], [[0, 0, 9, 10], [0, 0, 8, 10]])
    assert positives == [[0], [0]]
    assert index[:, 0].tolist() == [1, 0]


def test_of_equal_claims_the_first_counts() -> None:
    index, positives = assigned([[20, 0, 29, 10], [21, 0, 30, 10], [20, 0, 29, 10]])
    assert positives == [[2]] and index[0, 2] == 0


def test_an_object_that_loses_one_anchor_keeps_its_others() -> None:
    # The first claims the anchors 0 and 1 with an IoU of 1/2 each, the second takes 1 with 0.9.
    index, positives = assigned([[0, 0, 20, 10], [10, 0, 19, 10]])
    assert positives == [[0, 1]] and index[0, :2].tolist() == [0, 1]


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    objects = [[], [[20, 0, 29, 10], [30, 0, 39, 10]], [[30, 0, 39, 10]]]
    index, positives = assigned(*objects)
    assert positives == [[], [2, 3], [3]]
    assert index[1, [2, 3]].tolist() == [0, 1] and index[2, 3] == 0


def test_a_box_without_area_or_off_the_anchors_gets_none() -> None:
    thin, point, swapped = [5, 0, 5, 10], [5, 5, 5, 5], [10, 10, 0, 0]
    assert assigned([thin], [point], [swapped], [[90, 90, 95, 95]])[1] == [[]] * 4


def test_padding_is_never_assigned() -> None:
    boxes = FINE[None, :2].clone()
    index, positive = assign_anchors([FINE], boxes, torch.tensor([[False, True]]))
    assert positive[0].nonzero().tolist() == [[1]] and index[0, 1] == 1
    assert not assign_anchors([FINE], boxes, torch.zeros(1, 2, dtype=torch.bool))[1].any()


def test_a_level_without_locations_changes_nothing() -> None:
    objects = ([[0, 0, 18, 10]], [[0, -5, 20, 15]])
    for anchors in [(FINE[:0], FINE, COARSE), (FINE, FINE[:0], COARSE)]:
        index, positives = assigned(*objects, anchors=anchors)
        expected = assigned(*objects, anchors=(FINE, COARSE))
        assert positives == expected[1] and torch.equal(index, expected[0])


def test_a_single_candidate_is_positive_if_the_object_contains_its_center() -> None:
    assert assigned([[0, 0, 6, 6]], [[6, 6, 9, 9]], anchors=(FINE[:1],))[1] == [[0], []]


def test_it_agrees_with_the_rule_written_out_for_one_object_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = [random_boxes(count, generator) for count in (60, 20, 4)]
    boxes = torch.stack([random_boxes(5, generator), random_boxes(5, generator)])
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    index, positive = assign_anchors(levels, boxes, valid, topk=6)
    assert positive.any(dim=1).all() and not positive.all()
    for image in range(2):
        expected = written_out(levels, boxes[image][valid[image]], topk=6)
        actual = torch.where(positive[image], index[image], -1)
        assert actual.tolist() == expected


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    corners = torch.rand(count, 2, generator=generator) * 80
    return torch.cat([corners, corners + 10 + 30 * torch.rand(count, 2, generator=generator)], 1)


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return common / (sum(areas) - common)


def written_out(levels: list[Tensor], boxes: Tensor, topk: int) -> list[int]:
    """The object of every anchor, or -1."""
    owners: dict[int, tuple[float, int]] = {}
    for number, box in enumerate(boxes.tolist()):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        candidates, start = [], 0
        for level in levels:
            rows = [
                ((((a[0] + a[2]) / 2 - x) ** 2 + ((a[1] + a[3]) / 2 - y) ** 2), start + place, a)
                for place, a in enumerate(level.tolist())
            ]
            candidates += sorted(rows)[:topk]
            start += len(level)
        ious = torch.tensor([overlap(a, box) for _, _, a in candidates], dtype=torch.float64)
        threshold = (ious.mean() + ious.std()).item()
        for (_, place, a), iou in zip(candidates, ious.tolist(), strict=True):
            cx, cy = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2
            inside = min(cx - box[0], cy - box[1], box[2] - cx, box[3] - cy) > 0.01
            if iou >= threshold and inside and iou > owners.get(place, (-1.0, 0))[0]:
                owners[place] = (iou, number)
    return [owners.get(place, (0.0, -1))[1] for place in range(sum(map(len, levels)))]

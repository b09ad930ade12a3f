from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances

from distill.modeling.dense.targets import class_targets, pad_ground_truth


def objects(boxes: list[list[float]], classes: list[int]) -> Instances:
    instances = Instances((32, 32))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return instances


def test_images_get_as_many_places_as_the_fullest_and_one_more() -> None:
    first = objects([[1, 2, 3, 4]], [5])
    second = objects([[5, 6, 7, 8], [9, 10, 11, 12]], [3, 1])
    boxes, classes, valid = pad_ground_truth([first, second])
    nothing = [0, 0, 0, 0]
    assert boxes.tolist() == [
        [[1, 2, 3, 4], nothing, nothing],
        [[5, 6, 7, 8], [9, 10, 11, 12], nothing],
    ]
    assert classes.tolist() == [[5, 0, 0], [3, 1, 0]]
    assert valid.tolist() == [[True, False, False], [True, True, False]]


def test_a_batch_without_objects_has_one_empty_place() -> None:
    boxes, classes, valid = pad_ground_truth([objects([], []), objects([], [])])
    assert boxes.shape == (2, 1, 4) and classes.dtype == torch.int64
    assert valid.tolist() == [[False], [False]]


def test_targets_are_zero_but_at_the_labels() -> None:
    labels, values = torch.tensor([[1, 2, 0]]), torch.tensor([[0.25, 0.5, 0.75]])
    # Class 2 is the background.
    assert class_targets(labels, values, 2).tolist() == [[[0, 0.25], [0, 0], [0.75, 0]]]

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.matching import compare, match_boxes

_TEN = (0, 0, 10, 10)


def _labels(*rows: tuple) -> PseudoLabels:
    """Rows of image, box, score, class."""
    image, boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return PseudoLabels(
        np.array(image, int),
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
        np.array(classes, int),
    )


def test_the_best_score_takes_the_object_whatever_the_order():
    found = _labels((0, _TEN, 0.8, 0), (0, (0, 0, 10, 9), 0.9, 0), (1, _TEN, 0.1, 0))
    matches = match_boxes(found, _labels((0, _TEN, 1, 0)))
    assert matches.right.tolist() == [False, True, False]
    assert matches.counted.tolist() == [True, True, True]


@pytest.mark.parametrize(("iou", "right"), [(0.5, True), (0.51, False)])
def test_a_match_needs_the_iou(iou, right):
    found = _labels((0, (0, 0, 5, 10), 0.8, 0))
    assert match_boxes(found, _labels((0, _TEN, 1, 0)), iou=iou).right.tolist() == [right]


def test_classes_and_images_are_apart():
    found = _labels((0, _TEN, 0.9, 1), (1, _TEN, 0.9, 0), (2, _TEN, 0.9, 1))
    truth = _labels((0, _TEN, 1, 0), (2, _TEN, 1, 1))
    assert match_boxes(found, truth).right.tolist() == [False, False, True]


def test_boxes_in_a_crowd_count_neither_way():
    crowd = _labels((0, (0, 0, 40, 40), 1, 0))
    found = _labels(
        (0, (2, 2, 6, 6), 0.9, 0), (0, (20, 20, 25, 25), 0.8, 0), (0, (50, 50, 60, 60), 0.7, 0)
    )
    matches = match_boxes(found, _labels((0, (20, 20, 25, 25), 1, 0)), crowds=crowd)
    assert matches.right.tolist() == [False, True, False]
    assert matches.counted.tolist() == [False, True, True]


def test_what_is_right_above_a_threshold_does_not_depend_on_the_rest():
    rng = np.random.default_rng(0)

    def draw(number: int) -> PseudoLabels:
        corner = rng.uniform(0, 30, (number, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 16, (number, 2))], 1)
        image = np.sort(rng.integers(0, 5, number))
        return PseudoLabels(image, boxes, rng.uniform(size=number), rng.integers(0, 2, number))

    found, truth = draw(120), draw(40)
    every = match_boxes(found, truth).right
    assert 10 < every.sum() < 40
    for threshold in (0.2, 0.5, 0.8):
        kept = found.scores > threshold
        assert np.array_equal(match_boxes(found.select(kept), truth).right, every[kept])


def test_nothing_matches_nothing():
    assert match_boxes(_labels(), _labels((0, _TEN, 1, 0))).right.shape == (0,)
    matches = match_boxes(_labels((0, _TEN, 1, 0)), _labels())
    assert matches.right.tolist() == [False] and matches.counted.tolist() == [True]
    assert match_boxes(_labels(), _labels()).right.shape == (0,)


def _file(*rows: tuple, images: int = 1, names: tuple[str, ...] = ("ant", "bee")) -> PseudoFile:
    listed = [{"id": 7 + i, "file_name": f"{i}.png"} for i in range(images)]
    return PseudoFile({}, listed, names, ("t",), _labels(*rows))


def test_labels_are_compared_by_the_names_of_classes_and_the_ids_of_images():
    found = _file((0, _TEN, 0.9, 1), (1, _TEN, 0.9, 0), (1, _TEN, 0.8, 1), images=2)
    truth = _file((0, _TEN, 1, 0), (0, (20, 20, 30, 30), 1, 1), names=("bee", "cow"))
    compared = compare(found, truth)
    assert compared.right.tolist() == [True, False, False]
    assert compared.labeled.tolist() == [True, False]
    # The cow is no class of the boxes.
    assert (len(compared.objects), compared.quality.recall) == (1, 1.0)
    assert compared.quality.precision == pytest.approx(1 / 3)


def test_a_box_in_a_crowd_counts_neither_way():
    found = _file((0, (2, 2, 6, 6), 0.9, 0), (0, (20, 20, 30, 30), 0.8, 0))
    truth = dataclasses.replace(_file((0, (20, 20, 30, 30), 1, 0)), crowds=_labels((0, _TEN, 1, 0)))
    compared = compare(found, truth)
    assert (compared.quality.precision, compared.quality.recall) == (1.0, 1.0)


def test_each_object_is_found_once_by_the_best_score():
    found = _file((0, (0, 0, 10, 9), 0.9, 0), (0, _TEN, 0.8, 0))
    compared = compare(found, _file((0, _TEN, 1, 0)))
    assert (compared.quality.precision, compared.quality.recall) == (0.5, 1.0)


def test_without_boxes_or_objects_there_is_no_share():
    nothing, one = _file(), _file((0, _TEN, 0.9, 0))
    for found, truth, shares in (
        (nothing, one, (None, 0.0)),
        (one, nothing, (0.0, None)),
        (nothing, nothing, (None, None)),
    ):
        compared = compare(found, truth)
        assert (compared.quality.precision, compared.quality.recall) == shares

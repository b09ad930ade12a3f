from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.labeling.calibration import Calibration, calibrate

_CLASSES = ("ant", "bee")
# A place in an image that is free of every other.
_PLACES = [(30.0 * i, 0.0, 30.0 * i + 10, 10.0) for i in range(40)]


def _file(
    *rows: tuple[int, int, float, int], images: int = 2, classes=_CLASSES, **info
) -> PseudoFile:
    """Rows of image, place, score, class."""
    image, place, score, category = np.array(rows, float).reshape(-1, 4).T
    boxes = np.array(_PLACES)[place.astype(int)]
    labels = PseudoLabels(image.astype(int), boxes, score, category.astype(int))
    listed = [
        {"id": 10 + i, "file_name": f"{i}.png", "width": 1200, "height": 10} for i in range(images)
    ]
    info = {"dataset": None, "image_root": "", **info}
    return PseudoFile(info, listed, tuple(classes), ("teacher",), labels)


# Ants: right, wrong, right, right, wrong. Bees: right, wrong, wrong.
_PSEUDO = _file(
    *((0, 0, 0.9, 0), (0, 10, 0.8, 0), (0, 1, 0.7, 0), (1, 0, 0.6, 0), (1, 10, 0.2, 0)),
    *((0, 2, 0.95, 1), (1, 11, 0.5, 1), (1, 12, 0.4, 1)),
)
_TRUTH = _file((0, 0, 1, 0), (0, 1, 1, 0), (1, 0, 1, 0), (1, 3, 1, 0), (0, 2, 1, 1), (1, 2, 1, 1))


def _calibrate(pseudo: PseudoFile = _PSEUDO, truth: PseudoFile = _TRUTH, **options) -> Calibration:
    return calibrate(pseudo, truth, **{"min_boxes": 1, "min_kept": 0, **options})


def test_each_class_takes_its_best_threshold():
    calibration = _calibrate()
    # F-1 of ants is 2/5, 2/6, 4/7, 6/8, 6/9; of bees 2/3, 2/4, 2/5.
    assert calibration.thresholds.classes == {"ant": 0.4, "bee": 0.725}
    ant, bee = calibration.classes
    assert (ant.quality.precision, ant.quality.recall) == (3 / 4, 3 / 4)
    assert (bee.quality.precision, bee.quality.recall) == (1, 1 / 2)
    assert (ant.kept, bee.kept, calibration.num_images) == (4, 1, 2)
    assert ant.reason == bee.reason == "its best"


def test_the_default_is_the_best_threshold_for_all_together():
    calibration = _calibrate()
    # Right and wrong by score: right at 0.95, 0.9, 0.7, 0.6, wrong at 0.8, 0.5, 0.4, 0.2.
    assert calibration.pooled.f_beta.tolist() == pytest.approx(
        [2 / 7, 4 / 8, 4 / 9, 6 / 10, 8 / 11, 8 / 12, 8 / 13, 8 / 14]
    )
    assert calibration.default == calibration.thresholds.default == 0.55


def test_the_total_is_of_each_class_above_its_own_threshold():
    total = _calibrate().total
    assert (total.right, total.boxes, total.objects) == (4, 5, 6)


@pytest.mark.parametrize(("min_boxes", "threshold"), [(1, 0.725), (2, 0.55)])
def test_a_class_of_few_right_boxes_takes_the_default(min_boxes, threshold):
    calibration = _calibrate(min_boxes=min_boxes)
    assert calibration.thresholds.classes == {"ant": 0.4, "bee": threshold}
    assert calibration.classes[1].reason == (
        "its best" if min_boxes == 1 else "best of all classes, as it is rare"
    )


def test_a_class_without_a_right_box_takes_the_default():
    truth = _file((0, 0, 1, 0), (0, 1, 1, 0), (1, 0, 1, 0), (1, 3, 1, 0), (0, 20, 1, 1))
    calibration = _calibrate(truth=truth, min_boxes=0)
    assert calibration.thresholds.classes["bee"] == calibration.default


# In the whole file bees have the scores 0.95, 0.5, 0.5, 0.4, 0.1.
@pytest.mark.parametrize(
    ("min_kept", "threshold", "kept"),
    [(1, 0.725, 1), (2, 0.45, 3), (3, 0.45, 3), (4, 0.25, 4), (5, 0.075, 5), (99, 0.075, 5)],
)
def test_a_class_keeps_enough_boxes_in_the_whole_file(min_kept, threshold, kept):
    rows = [(0, 2, 0.95, 1), (1, 11, 0.5, 1), (1, 12, 0.4, 1), (2, 5, 0.5, 1), (2, 6, 0.1, 1)]
    ants = [(0, 0, 0.9, 0), (1, 0, 0.9, 0)]
    pseudo = _file(*rows[:1], *ants, *rows[1:], images=3, score_floor=0.05)
    bee = _calibrate(pseudo, min_kept=min_kept).classes[1]
    assert (bee.threshold, bee.kept) == (threshold, kept)
    assert bee.reason == ("its best" if min_kept == 1 else "lowered to keep boxes")


def test_the_floor_bounds_every_threshold():
    calibration = _calibrate(floor=0.65, min_kept=99)
    assert calibration.floor == 0.65
    # Below the ant of 0.7, and below the bee of 0.95.
    assert calibration.thresholds.classes == {"ant": 0.675, "bee": 0.8}
    assert [x.kept for x in calibration.classes] == [3, 1]
    assert _calibrate().floor == 0.0


def test_the_floor_of_the_file_is_the_default():
    pseudo = _file((0, 0, 0.9, 0), (1, 0, 0.2, 0), score_floor=0.1)
    calibration = _calibrate(pseudo, _file((0, 0, 1, 0), (1, 0, 1, 0)))
    assert calibration.floor == 0.1
    assert calibration.thresholds.classes["ant"] == 0.15


def test_only_images_of_both_files_are_compared():
    more = [(2, 20, 0.99, 0), (2, 21, 0.99, 0), (2, 22, 0.99, 0)]
    rows = list(zip(*(x.tolist() for x in _columns(_PSEUDO)), strict=True))
    wider = _calibrate(_file(*rows, *more, images=3))
    assert wider.thresholds == _calibrate().thresholds
    assert wider.num_images == 2
    # But kept boxes are counted in all images.
    assert wider.classes[0].kept == 4 + 3
    fewer = _calibrate(truth=_file((0, 0, 1, 0), (0, 1, 1, 0), (0, 2, 1, 1), images=1))
    assert fewer.num_images == 1
    assert fewer.pooled.objects == 3 and fewer.pooled.boxes.tolist()[-1] == 4


def _columns(file: PseudoFile) -> tuple[np.ndarray, ...]:
    place = (file.labels.boxes[:, 0] / 30).astype(int)
    return file.labels.image, place, file.labels.scores, file.labels.classes


def test_images_and_classes_are_matched_by_id_and_name():
    rows = list(zip(*(x.tolist() for x in _columns(_TRUTH)), strict=True))
    swapped = [(1 - image, place, score, 1 - category) for image, place, score, category in rows]
    truth = _file(*sorted(swapped), classes=("bee", "ant"))
    truth = PseudoFile(
        truth.info, truth.images[::-1], truth.class_names, truth.teachers, truth.labels
    )
    assert _calibrate(truth=truth).thresholds == _calibrate().thresholds


def test_classes_without_labels_take_no_part():
    truth = _file((0, 0, 1, 0), (0, 1, 1, 0), (1, 0, 1, 0), (1, 3, 1, 0), classes=("ant",))
    calibration = _calibrate(truth=truth)
    assert calibration.unlabeled == ("bee",)
    assert calibration.thresholds.classes == {"ant": 0.4}
    assert calibration.default == 0.4 and calibration.pooled.objects == 4


def test_a_box_in_a_crowd_is_not_wrong():
    crowds = _file((0, 10, 1, 0), (1, 2, 1, 1)).labels
    ant = _calibrate(truth=dataclasses.replace(_TRUTH, crowds=crowds)).classes[0]
    assert ant.curve.scores.tolist() == [0.9, 0.7, 0.6, 0.2]
    assert ant.quality.precision == 1


_ELSEWHERE = _file((0, 20, 1, 0), (1, 20, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pseudo": _file()}, "no pseudo labels"),
        ({"truth": _file()}, "labels have no box"),
        ({"truth": _file((0, 0, 1, 0), classes=("x", "y"))}, r"\(ant, bee\) .* \(x, y\)"),
        ({"truth": _file((0, 0, 1, 1), classes=("ant", "x"))}, "labels have no box in the images"),
        ({"truth": _ELSEWHERE}, "No pseudo label above 0 overlaps an object"),
        ({"floor": 0.99}, "No pseudo label above 0.99 overlaps an object"),
        ({"beta": 0.0}, "--beta is 0: "),
        ({"beta": -1.0}, "--beta is -1: "),
        ({"beta": float("nan")}, "--beta is nan: "),
        ({"iou": 0.0}, "--iou is 0: "),
        ({"iou": 1.1}, "--iou is 1.1: "),
        ({"floor": 1.0}, "--floor is 1: "),
        ({"floor": -0.1}, "--floor is -0.1: "),
        ({"min_boxes": -1}, "--min-boxes is -1: "),
        ({"min_kept": -1}, "--min-kept is -1: "),
    ],
)
def test_what_cannot_be_calibrated_is_named_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        _calibrate(**arguments)
    assert "\n" not in str(error.value)


def test_labels_of_other_images_are_refused():
    other = [
        {**image, "id": image["id"] + 100, "file_name": f"other_{image['file_name']}"}
        for image in _TRUTH.images
    ]
    truth = PseudoFile(_TRUTH.info, other, _CLASSES, ("labels",), _TRUTH.labels)
    with pytest.raises(ValueError, match="No image is in both files"):
        _calibrate(truth=truth)

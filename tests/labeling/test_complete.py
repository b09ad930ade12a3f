from __future__ import annotations

import pytest
from helpers.teacher_files import IMAGES, box, pseudo_file, rows_of, teacher_input

from distill.data.pseudo.labels import HUMAN
from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.aliases import Aliases
from distill.labeling.complete import complete

_FAR = box(100)


def _truth(*rows: tuple, classes=("ant",), **options):
    return pseudo_file(HUMAN, classes, *rows, **options)


def test_classes_that_the_labels_lack_are_added():
    truth = _truth((1, box(0), 1.0, "ant"))
    rows = [(0, _FAR, 0.6, "bee"), (1, _FAR, 0.9, "bee"), (1, box(50), 0.5, "bee")]
    # The last is not above the threshold.
    completed = complete(truth, teacher_input("A", ["bee"], *rows))
    assert rows_of(completed.file) == [
        (0, _FAR, 0.6, "bee", "A"),
        (1, box(0), 1.0, "ant", HUMAN),
        (1, _FAR, 0.9, "bee", "A"),
    ]


def test_what_is_labeled_is_dropped_and_counted_by_reason():
    truth = _truth((0, box(0), 1.0, "ant"), classes=["ant", "cow"])
    rows = [
        (0, box(1), 0.9, "ant"),  # The label.
        (0, _FAR, 0.9, "ant"),  # Where no ant is labeled.
        (1, box(0), 0.9, "cow"),
        (0, box(1), 0.8, "bee"),  # The ant, for the label is right.
        (0, box(4), 0.7, "bee"),  # Beside it.
    ]
    completed = complete(truth, teacher_input("A", ["ant", "bee", "cow"], *rows))
    assert [row[2:] for row in rows_of(completed.file)] == [(1.0, "ant", HUMAN), (0.7, "bee", "A")]
    keys = ("class", "labels", "pseudo", "found", "beyond", "conflict", "added")
    assert [tuple(row[key] for key in keys) for row in completed.classes] == [
        ("ant", 1, 2, 1, 1, 0, 0),
        ("bee", 0, 2, 0, 0, 1, 1),
        ("cow", 0, 1, 0, 1, 0, 0),
    ]


def test_limits_of_overlap_can_be_set():
    truth = _truth((0, box(0), 1.0, "ant"))
    rows = [(0, box(0, 6), 0.9, "ant"), (0, box(0, 8), 0.9, "bee")]
    pseudo = teacher_input("A", ["ant", "bee"], *rows)
    ant, bee = complete(truth, pseudo).classes
    assert (ant["found"], ant["beyond"], bee["conflict"], bee["added"]) == (1, 0, 1, 0)
    ant, bee = complete(truth, pseudo, iou=0.6, conflict_iou=0.8).classes
    assert (ant["found"], ant["beyond"], bee["conflict"], bee["added"]) == (0, 1, 0, 1)


def test_a_class_may_go_by_another_name():
    aliases = Aliases("", {"auto": "car", "lorry": "truck"})
    truth = _truth((0, box(0), 1.0, "auto"), classes=["auto"])
    rows = [(0, box(1), 0.9, "car"), (0, _FAR, 0.9, "car"), (1, _FAR, 0.9, "lorry")]
    completed = complete(truth, teacher_input("A", ["car", "lorry"], *rows), aliases=aliases)
    assert [row[2:] for row in rows_of(completed.file)] == [
        (1.0, "car", HUMAN),
        (0.9, "truck", "A"),
    ]


def test_thresholds_are_by_class():
    rows = [(0, _FAR, 0.4, "bee"), (1, _FAR, 0.4, "cow")]
    limits = Thresholds(0.5, {"cow": 0.3})
    completed = complete(_truth(), teacher_input("A", ["bee", "cow"], *rows, limits=limits))
    assert [row[3] for row in rows_of(completed.file)] == ["cow"]
    assert completed.file.info["thresholds"] == {"A": {"default": 0.5, "classes": {"cow": 0.3}}}
    assert completed.file.info["score_floor"] == 0.3


def test_the_images_are_those_of_the_labels():
    truth = _truth((0, box(0), 1.0, "ant"), images=[IMAGES[2], IMAGES[0]])
    rows = [(0, _FAR, 0.8, "bee"), (1, _FAR, 0.9, "bee"), (2, _FAR, 0.7, "bee")]
    completed = complete(truth, teacher_input("A", ["bee"], *rows))
    assert completed.file.images == [IMAGES[2], IMAGES[0]]
    assert [row[:3] for row in rows_of(completed.file)] == [
        (0, box(0), 1.0),
        (0, _FAR, 0.7),
        (1, _FAR, 0.8),
    ]


def test_images_that_were_never_looked_at_are_refused():
    pseudo = teacher_input("A", ["bee"], images=IMAGES[:1])
    with pytest.raises(ValueError, match="A.json lacks 2 of the 3 images of zoo, such as 2.png"):
        complete(_truth(), pseudo, name="zoo")


def test_classes_can_be_chosen():
    truth = _truth((0, box(0), 1.0, "ant"), (0, _FAR, 1.0, "dog"), classes=["ant", "dog"])
    rows = [(0, box(30), 0.9, "bee"), (0, box(50), 0.9, "cow")]
    pseudo = teacher_input("A", ["bee", "cow"], *rows)
    completed = complete(truth, pseudo, classes=["cow", "ant"])
    assert completed.file.class_names == ("cow", "ant")
    assert [row[3] for row in rows_of(completed.file)] == ["ant", "cow"]


def test_the_header_tells_where_boxes_come_from():
    truth = _truth((0, box(0), 1.0, "ant"), dataset="zoo", image_root="/zoo")
    pseudo = teacher_input("A", ["bee"], (0, _FAR, 0.9, "bee"), counts={"skipped": 1})
    completed = complete(truth, pseudo)
    info = completed.file.info
    assert (info["dataset"], info["image_root"]) == ("zoo", "/zoo")
    assert info["teachers"] == {"A": {"weights_sha256": "A"}}
    assert info["counts"] == {"images": 3, "boxes": 2, "labels": 1, "added": 1, "skipped": 1}
    assert info["complete"] == {"iou": 0.5, "conflict_iou": 0.7, "classes": completed.classes}


def test_labels_without_a_folder_take_that_of_the_pseudo_labels():
    images = [{**x, "file_name": f"train/{x['file_name']}"} for x in IMAGES]
    pseudo = teacher_input("A", ["bee"], images=images, image_root="/zoo")
    file = complete(_truth(), pseudo).file
    assert (file.images, file.info["image_root"]) == (images, "/zoo")


def test_completed_labels_can_be_completed_again():
    first = complete(_truth(), teacher_input("A", ["bee"], (0, _FAR, 0.9, "bee"))).file
    rows = [(0, box(50), 0.8, "bee"), (0, box(0), 0.7, "cow")]
    second = complete(first, teacher_input("B", ["bee", "cow"], *rows)).file
    assert [row[3:] for row in rows_of(second)] == [("bee", "A"), ("cow", "B")]
    assert list(second.info["teachers"]) == list(second.info["thresholds"]) == ["A", "B"]


def test_without_any_box_there_is_a_file_still():
    file = complete(_truth(), teacher_input("A", ["bee"])).file
    assert rows_of(file) == [] and file.class_names == ("ant", "bee")

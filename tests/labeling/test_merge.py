from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from helpers.teacher_files import IMAGES, box, labels, rows_of, teacher_input

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN
from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.aliases import Aliases
from distill.labeling.merge import MergeSettings, merge
from distill.labeling.pool import TeacherInput

_FAR = box(100)


def test_boxes_of_a_class_by_several_teachers_become_one():
    a = teacher_input("A", ["ant"], (0, box(0), 0.8, "ant"), (1, box(0), 0.6, "ant"))
    b = teacher_input("B", ["ant"], (0, box(1), 0.9, "ant"), (0, _FAR, 0.7, "ant"))
    assert rows_of(merge([a, b]).file) == [
        (0, box(1), 0.9, "ant", "A+B"),
        (0, _FAR, 0.7, "ant", "B"),
        (1, box(0), 0.6, "ant", "A"),
    ]


def test_box_fusion_averages_and_counts_those_that_know_the_class():
    a = teacher_input("A", ["ant", "bee"], (0, box(0), 0.9, "ant"), (0, _FAR, 0.8, "bee"))
    b = teacher_input("B", ["ant"], (0, box(2), 0.6, "ant"), (1, _FAR, 0.5, "ant"))
    assert rows_of(merge([a, b], MergeSettings("wbf")).file) == [
        (0, _FAR, 0.8, "bee", "A"),
        (0, box(0.8), 0.75, "ant", "A+B"),
        (1, _FAR, 0.25, "ant", "B"),
    ]


def test_soft_nms_keeps_boxes_with_lower_scores():
    a = teacher_input("A", ["ant"], (0, box(0), 0.9, "ant"))
    b = teacher_input("B", ["ant"], (0, box(0, 5), 0.8, "ant"), (0, box(0), 0.3, "ant"))
    # The last falls to 0.3 * exp(-2) * exp(-0.5) = 0.025, below the score threshold.
    assert rows_of(merge([a, b], MergeSettings("soft-nms")).file) == [
        (0, box(0), 0.9, "ant", "A"),
        (0, box(0, 5), 0.4852, "ant", "B"),
    ]


def _random_inputs() -> list[TeacherInput]:
    """Three teachers of overlapping classes, with equal scores, equal boxes and a common name."""
    rng = np.random.default_rng(0)
    result = []
    for name, classes in (("C", "cba"), ("A", "ab"), ("B", "bd")):
        columns = [rng.integers(0, 3, 24), rng.integers(1, 5, 24), rng.choice(list(classes), 24)]
        rows = [
            (i // 8, box(10 * left), score / 10, category)
            for i, (left, score, category) in enumerate(
                zip(*(x.tolist() for x in columns), strict=True)
            )
        ]
        result.append(teacher_input(name, list(classes), *rows, limits=Thresholds(0.1)))
    # The same teacher once more, with other boxes.
    rows = [(0, box(3), 0.4, "a"), (0, box(0), 0.4, "b")]
    again = teacher_input("A", ["a", "b"], *rows, limits=Thresholds(0.1))
    return [*result, again]


@pytest.mark.parametrize("method", ["nms", "wbf", "soft-nms"])
def test_the_sequence_of_the_teachers_does_not_matter(tmp_path, method):
    written = set()
    for number, inputs in enumerate(itertools.permutations(_random_inputs())):
        merged = merge(inputs, MergeSettings(method))
        merged.file.save(tmp_path / f"{number}.json")
        written.add((tmp_path / f"{number}.json").read_bytes())
        assert len(merged.file.labels) > 8 and merged.conflicts
    assert number == 23 and len(written) == 1


def test_the_sequence_of_the_images_does_not_matter():
    a = teacher_input("A", ["ant"], (2, box(0), 0.8, "ant"))
    b = teacher_input("B", ["ant"], (0, box(0), 0.9, "ant"), images=IMAGES[::-1])
    assert rows_of(merge([a, b]).file) == [(2, box(0), 0.9, "ant", "A+B")]


def test_other_names_of_a_class_are_that_class():
    aliases = Aliases("", {"auto": "car", "tank": "car"})
    a = teacher_input("A", ["ant", "car"], (0, box(0), 0.8, "car"))
    b = teacher_input("B", ["auto", "tank"], (0, box(0), 0.7, "auto"), (0, box(1), 0.6, "tank"))
    merged = merge([a, b], aliases=aliases)
    assert rows_of(merged.file) == [(0, box(0), 0.8, "car", "A+B")]
    assert merged.teachers_of == {"ant": ["A"], "car": ["A", "B"]}


def test_classes_can_be_chosen():
    a = teacher_input("A", ["ant", "bee", "cow"], *((0, _FAR, 0.8, x) for x in ("cow", "ant")))
    merged = merge([a], classes=["cow", "bee"])
    assert merged.file.class_names == ("cow", "bee")
    assert rows_of(merged.file) == [(0, _FAR, 0.8, "cow", "A")]


def test_each_teacher_has_thresholds_by_its_own_names():
    aliases, limits = Aliases("", {"auto": "car"}), Thresholds(0.3, {"auto": 0.7})
    rows = [(0, box(20 * i), score, "auto") for i, score in enumerate((0.7, 0.71))]
    a = teacher_input("A", ["auto", "ant"], *rows, (0, _FAR, 0.31, "ant"), limits=limits)
    b = teacher_input("B", ["car"], (1, box(0), 0.06, "car"), (1, _FAR, 0.05, "car"))
    merged = merge([a, b], aliases=aliases)
    assert rows_of(merged.file) == [
        (0, box(20), 0.71, "car", "A"),
        (0, _FAR, 0.31, "ant", "A"),
        (1, box(0), 0.06, "car", "B"),
    ]
    assert merged.file.info["thresholds"] == {
        "A": {"default": 0.3, "classes": {"auto": 0.7}},
        "B": {"default": 0.05, "classes": {}},
    }


def test_a_conflict_is_won_by_the_higher_score_and_counted():
    a = teacher_input("A", ["ant"], (0, box(0), 0.8, "ant"), (1, box(0), 0.3, "ant"))
    b = teacher_input("B", ["bee"], (0, box(1), 0.6, "bee"), (1, box(1), 0.4, "bee"))
    merged = merge([a, b])
    assert [row[2:] for row in rows_of(merged.file)] == [(0.8, "ant", "A"), (0.4, "bee", "B")]
    assert merged.conflicts == [
        {"class": "ant", "other": "bee", "count": 1},
        {"class": "bee", "other": "ant", "count": 1},
    ]
    kept = merge([a, b], MergeSettings(keep_conflicts=True))
    assert len(kept.file.labels) == 4 and kept.conflicts == merged.conflicts
    assert not merge([a, b], MergeSettings(conflict_iou=0.9)).conflicts


def test_a_teacher_that_found_both_classes_settles_the_matter():
    a = teacher_input("A", ["ant"], (0, box(0), 0.8, "ant"))
    both = [(0, box(0), 0.7, "ant"), (0, box(0), 0.6, "bee")]
    b = teacher_input("B", ["ant", "bee"], *both)
    merged = merge([a, b])
    assert [row[3:] for row in rows_of(merged.file)] == [("ant", "A+B"), ("bee", "B")]
    assert not merged.conflicts


def test_the_header_tells_where_boxes_come_from():
    extra = {"dataset": "zoo", "image_root": "/zoo", "thresholds": {"B": {"default": 0.4}}}
    a = teacher_input("A", ["ant"], (0, box(0), 0.8, "ant"), (0, _FAR, 0.01, "ant"))
    b = teacher_input("B", ["bee"], (0, box(0), 0.7, "bee"), counts={"skipped": 2}, **extra)
    info = merge([a, b], MergeSettings("wbf", iou=0.6)).file.info
    assert (info["dataset"], info["image_root"]) == ("zoo", "/zoo")
    assert info["teachers"] == {"A": {"weights_sha256": "A"}, "B": {"weights_sha256": "B"}}
    assert info["counts"] == {"images": 3, "boxes": 1, "skipped": 2}
    # Nothing new was asked of B, so that its own header stands.
    assert info["thresholds"]["B"] == {"default": 0.4}
    assert info["merge"] == {
        "method": "wbf",
        "iou": 0.6,
        "score_threshold": 0.05,
        "conflict_iou": 0.7,
        "keep_conflicts": False,
        "inputs": [
            {"teacher": "A", "boxes": 2, "believed": 1, "kept": 1, "shared": 0},
            {"teacher": "B", "boxes": 1, "believed": 1, "kept": 0, "shared": 0},
        ],
        "conflicts": [{"class": "ant", "other": "bee", "count": 1}],
    }


def test_kept_and_shared_boxes_are_counted():
    a = teacher_input("A", ["ant"], (0, box(0), 0.8, "ant"), (1, box(0), 0.6, "ant"))
    b = teacher_input("B", ["ant"], (0, box(1), 0.9, "ant"), (0, _FAR, 0.7, "ant"))
    counts = [(row["kept"], row["shared"]) for row in merge([a, b]).inputs]
    assert counts == [(2, 1), (2, 1)]


def test_what_was_merged_can_be_merged_again():
    a, b = (teacher_input(x, ["ant"], (0, box(0), 0.8, "ant")) for x in "AB")
    c = teacher_input("C", ["ant"], (0, box(1), 0.7, "ant"), (1, box(0), 0.6, "ant"))
    again = merge([c, TeacherInput("AB.json", merge([a, b]).file)]).file
    assert [row[4] for row in rows_of(again)] == ["A+B+C", "C"]
    assert list(again.info["teachers"]) == ["A", "B", "C"]


@pytest.mark.parametrize("method", ["nms", "wbf", "soft-nms"])
def test_teachers_without_boxes_still_count(method):
    a, b = teacher_input("A", ["ant"]), teacher_input("B", ["ant", "bee"])
    merged = merge([a, b], MergeSettings(method))
    assert rows_of(merged.file) == []
    assert merged.teachers_of == {"ant": ["A", "B"], "bee": ["B"]}


def test_no_image_is_merged_to_no_image():
    inputs = [teacher_input(x, ["ant"]) for x in "AB"]
    empty = [dataclasses.replace(x, file=dataclasses.replace(x.file, images=[])) for x in inputs]
    assert merge(empty).file.images == []


def test_labels_take_part_as_a_teacher():
    truth = teacher_input(HUMAN, ["ant"], (0, box(0), 1.0, "ant"))
    a = teacher_input("A", ["ant"], (0, box(1), 0.9, "ant"))
    assert rows_of(merge([a, truth]).file) == [(0, box(0), 1.0, "ant", f"A+{HUMAN}")]


def test_other_images_are_refused():
    a, b = teacher_input("A", ["ant"]), teacher_input("B", ["ant"], images=IMAGES[:2])
    for inputs in ([a, b], [b, a]):
        with pytest.raises(ValueError, match="let all teachers label the same images"):
            merge(inputs)


def test_different_weights_of_one_name_are_refused():
    a, b = teacher_input("A", ["ant"]), teacher_input("B", ["ant"], teachers={"A": {"config": ""}})
    with pytest.raises(ValueError, match="call different weights A: give one"):
        merge([a, b])


def test_thresholds_of_another_teacher_are_refused():
    a = teacher_input("A", ["ant"], limits=Thresholds(0.5, {"bee": 0.4}))
    with pytest.raises(ValueError, match="thresholds for A.json are of bee, none of which"):
        merge([a])


def test_more_teachers_than_bits_are_refused():
    a = teacher_input("A", ["ant"], teachers={str(i): {} for i in range(63)})
    with pytest.raises(ValueError, match="of 63 teachers: merge up to 62"):
        merge([a])


def test_a_file_need_not_know_its_teachers():
    file = PseudoFile({"dataset": None, "image_root": ""}, IMAGES, ("ant",), ("A",), labels())
    assert merge([TeacherInput("A.json", file)]).inputs[0]["teacher"] == "A"

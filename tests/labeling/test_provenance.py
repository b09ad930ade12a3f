from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.teacher_files import box, labels, pseudo_file

from distill.labeling.provenance import (
    TeacherBits,
    digest,
    one_dataset,
    teacher_names,
    united_header,
    united_teachers,
)


def test_sets_of_teachers_are_written_by_sorted_names():
    bits = TeacherBits([pseudo_file(name, ["ant"]) for name in "CAB"])
    assert bits.names == ["A", "B", "C"]
    names, place = bits.decode(np.array([5, 2, 4, 1, 3, 2]))
    assert names == ("A", "A+B", "A+C", "B", "C")
    assert place.tolist() == [2, 3, 4, 0, 1, 3]
    assert [list(x) for x in bits.decode(np.zeros(0, int))] == [[], []]


def test_the_teachers_of_a_box_are_told_apart():
    file = pseudo_file("A", ["ant"])
    found = labels((0, box(0), 0.9, 0), (0, box(0), 0.9, 0), teacher=[1, 0])
    file = dataclasses.replace(file, teachers=("A", "B+C"), labels=found)
    bits = TeacherBits([file])
    assert (bits.names, bits.of(file).tolist()) == (["A", "B", "C"], [6, 1])
    # Without numbers there is but one teacher.
    found = dataclasses.replace(found, teacher=None)
    assert bits.of(dataclasses.replace(file, labels=found)).tolist() == [1, 1]


def test_teachers_are_known_by_their_boxes_or_the_header():
    file = pseudo_file("A", ["ant"], (0, box(0), 0.9, "ant"), teachers={"B": {}})
    assert teacher_names(file) == ("A", "B")
    assert teacher_names(pseudo_file("A", ["ant"], teachers=None)) == ("labels",)


def test_a_teacher_may_be_there_twice_if_its_weights_are_the_same():
    files = [pseudo_file(name, ["ant"]) for name in "BAB"]
    united = united_teachers(files, ["1", "2", "3"])
    assert list(united.items()) == [("A", {"weights_sha256": "A"}), ("B", {"weights_sha256": "B"})]
    other = pseudo_file("B", ["ant"], teachers={"B": {"weights_sha256": "x"}})
    with pytest.raises(ValueError, match="1 and 4 call different weights B"):
        united_teachers([*files, other], ["1", "2", "3", "4"])


def test_the_dataset_is_that_of_all_who_name_one():
    zoo, none, farm = (pseudo_file("A", ["ant"], dataset=x) for x in ("zoo", None, "farm"))
    assert [one_dataset(x) for x in ([zoo, none], [zoo, farm], [none])] == ["zoo", None, None]


def test_images_that_were_skipped_count_once():
    files = [pseudo_file("A", ["ant"], counts=x) for x in ({"skipped": 2}, {"skipped": 3}, None)]
    header = united_header("x", files, "123", place=files[0], dataset="zoo", score_floor=0.1)
    assert header["counts"] == {"images": 3, "boxes": 0, "skipped": 3}
    assert (header["dataset"], header["score_floor"], header["format"]) == ("zoo", 0.1, 1)


def test_a_digest_depends_on_everything():
    row = (0, box(0), 0.9, "ant")
    files = [
        pseudo_file("A", ["ant"], row),
        pseudo_file("B", ["ant"], row),
        pseudo_file("A", ["ant", "bee"], row),
        pseudo_file("A", ["ant"], row, row),
        pseudo_file("A", ["ant"], (0, box(1), 0.9, "ant")),
        pseudo_file("A", ["ant"], (0, box(0), 0.8, "ant")),
        pseudo_file("A", ["ant"], (1, box(0), 0.9, "ant")),
        pseudo_file("A", ["ant"], row, dataset="zoo"),
    ]
    assert len({digest(file) for file in files}) == len(files)
    assert digest(files[0]) == digest(pseudo_file("A", ["ant"], row))

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from distill.labeling.aliases import Aliases, class_order, union_classes

_NONE = Aliases()


def _table(folder: Path, text: str) -> Aliases:
    path = folder / "aliases.yaml"
    path.write_text(text, encoding="utf-8")
    return Aliases.load(path)


@pytest.fixture
def dataset():
    """A registered dataset without images."""
    DatasetCatalog.register("zoo", list)
    MetadataCatalog.get("zoo").thing_classes = ["emu", "cat", "ape"]
    yield "zoo"
    DatasetCatalog.remove("zoo")
    MetadataCatalog.remove("zoo")


def test_other_names_lead_to_the_canonical_one(tmp_path):
    table = _table(tmp_path, "car: [auto, Wagen]\nvehicle: [car]\n0: [zero]\nno: ['off', née]\n")
    names = ["Wagen", "car", "vehicle", "zero", "0", "off", "née", "bus"]
    canonical = ["vehicle", "vehicle", "vehicle", "0", "0", "no", "no", "bus"]
    assert [table.canonical(name) for name in names] == canonical


def test_an_empty_table_changes_nothing(tmp_path):
    assert _table(tmp_path, "").canonical("car") == "car"
    assert _table(tmp_path, "car: []\n").canonical("car") == "car"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [b]\nb: [a]\n", "form a circle, b -> a -> b"),
        ("a: [a]\n", "form a circle, a -> a"),
        ("x: [a]\na: [b]\nb: [c]\nc: [a]\n", "gives a to x and to c"),
        ("a: [b]\nb: [c]\nc: [a]\nd: [e]\n", "form a circle, b -> a -> c -> b"),
        ("a: [c]\nb: [c]\n", "gives c to a and to b: leave it to one"),
        ("a: [b]\na: [c]\n", "the name a is there twice as a key"),
        ("a: b\n", "is no alias table: write a line"),
        ("a:\n  b: c\n", "is no alias table"),
        ("- a\n", "is no alias table"),
        ("a: [[b]]\n", "is no alias table"),
        ("a: [b\n", "is no YAML file"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, text, reason):
    with pytest.raises(ValueError, match="aliases.yaml") as error:
        _table(tmp_path, text)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_a_missing_table_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="alias table .* does not exist"):
        Aliases.load(tmp_path / "none.yaml")


def test_a_table_may_not_list_what_no_input_has():
    table = Aliases("aliases.yaml", {"auto": "car", "lorry": "truck"})
    # A canonical name may be new.
    union_classes([["auto"], ["lorry"]], table)
    with pytest.raises(ValueError, match="aliases.yaml lists lorry, which no input has"):
        union_classes([["auto"], ["bus", "truck"]], table)


def test_classes_keep_the_order_of_a_list_that_has_all():
    lists = [["cow"], ["zebra", "cow", "ant"], ["ant", "zebra"]]
    assert union_classes(lists, _NONE) == (("zebra", "cow", "ant"), [[1], [0, 1, 2], [2, 0]])


def test_classes_are_sorted_where_no_list_has_all():
    lists = [["dog", "cow"], ["cow", "ant"]]
    assert union_classes(lists, _NONE) == (("ant", "cow", "dog"), [[2, 1], [1, 0]])


@pytest.mark.parametrize("lists", [[["b", "a"], ["a", "b"]], [["c", "b"], ["a"]]])
def test_the_sequence_of_the_lists_does_not_matter(lists):
    assert union_classes(lists, _NONE)[0] == union_classes(lists[::-1], _NONE)[0]


def test_two_classes_of_one_list_may_become_one():
    table = Aliases("", {"car": "vehicle", "bus": "vehicle"})
    assert union_classes([["car", "ant", "bus"]], table) == (("vehicle", "ant"), [[0, 1, 0]])


def test_an_order_names_and_limits_the_classes():
    table = Aliases("", {"tv": "television", "tvmonitor": "television"})
    # Called as the order calls it, whatever the canonical name is.
    names, places = union_classes([["tv", "cat", "emu"]], table, ["emu", "tvmonitor", "ape"])
    assert names == ("emu", "tvmonitor", "ape") and places == [[1, -1, 0]]


def test_an_order_names_each_class_once():
    table = Aliases("", {"tvmonitor": "tv"})
    with pytest.raises(ValueError, match="--classes names tv twice"):
        union_classes([["tv"]], table, ["tv", "tvmonitor"])


def test_the_order_is_that_of_names_or_of_a_dataset(dataset):
    assert class_order(None, ["cat"], _NONE) == []
    assert class_order(["cat", "ape"], ["ape", "cat", "bee"], _NONE) == ["cat", "ape"]
    # A dataset may have classes that no input knows.
    assert class_order([dataset], ["cat"], _NONE) == ["emu", "cat", "ape"]


def test_a_name_that_no_input_has_is_refused(dataset):
    table = Aliases("", {"kitten": "cat"})
    assert class_order(["kitten"], ["cat"], table) == ["kitten"]
    with pytest.raises(ValueError, match="--classes names dog, which is no class of any input"):
        class_order(["cat", "dog"], ["cat"], table)

from __future__ import annotations

from helpers.pseudo_pages import FAR, TEN, pseudo_file, true_labels

from distill.labeling.view_summary import summary

_NAMES = ["a.png", "b.png", "c.png"]
_ROWS = ((0, TEN, 0.04, 0, 0), (0, FAR, 0.5, 0, 1), (2, TEN, 0.51, 0, 1), (2, FAR, 1.0, 1, 1))


def test_it_counts_all_boxes_of_a_file():
    pseudo = pseudo_file(_NAMES, *_ROWS, teachers=("S", "T"))
    found = summary(pseudo, None, ["ant", "bee"], 0.5)
    assert found["facts"] == [
        ("images", 3),
        ("images without a sure box", 2),
        ("boxes", 4),
        ("sure boxes", 2),
        ("boxes of S", 1),
        ("boxes of T", 3),
    ]
    assert found["rows"] == [("ant", 3, 1, 0), ("bee", 1, 1, 0)]


def test_labels_are_counted_by_the_names_of_their_classes():
    labels = true_labels(_NAMES, (0, TEN, 0), (1, TEN, 1), (1, FAR, 1), classes=("cow", "ant"))
    found = summary(pseudo_file(_NAMES, *_ROWS), labels, ["ant", "bee", "cow"], 0.5)
    assert found["facts"][-1] == ("labels", 3)
    assert found["rows"] == [("ant", 3, 1, 2), ("bee", 1, 1, 0), ("cow", 0, 0, 1)]


def test_scores_fall_into_twenty_bins():
    bins = summary(pseudo_file(_NAMES, *_ROWS), None, ["ant", "bee"], 0.5)["bins"]
    assert len(bins) == 20
    assert {i: x for i, x in enumerate(bins) if x[0]} == {0: (1, 0.5), 10: (2, 1.0), 19: (1, 0.5)}


def test_a_file_without_boxes_has_empty_bins():
    found = summary(pseudo_file(_NAMES), None, ["ant", "bee"], 0.5)
    assert set(found["bins"]) == {(0, 0.0)} and found["rows"] == []


def test_the_header_is_flattened():
    info = {"source": {"T": {"config": "ü.yaml", "seeds": [1, 2]}}, "thresholds": {}}
    assert summary(pseudo_file(_NAMES, **info), None, ["ant", "bee"], 0.5)["header"] == [
        ("image_root", ""),
        ("dataset", "null"),
        ("source · T · config", "ü.yaml"),
        ("source · T · seeds", "[1, 2]"),
        ("thresholds", "{}"),
    ]

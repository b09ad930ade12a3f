from __future__ import annotations

import json

import pytest

from distill.data.pseudo.thresholds import Thresholds


def test_a_class_without_its_own_takes_the_default():
    thresholds = Thresholds(0.4, {"bee": 0.7})
    assert thresholds.of(["ant", "bee", "cow"]).tolist() == [0.4, 0.7, 0.4]
    assert thresholds.of([]).tolist() == []


def test_what_is_saved_is_loaded(tmp_path):
    thresholds = Thresholds(0.4, {"bee": 0.7, "Müller's ant": 0.123456, "蜂": 0.0})
    path = tmp_path / "new" / "thresholds.json"
    thresholds.save(path, {"beta": 2})
    assert Thresholds.load(path) == thresholds
    assert json.loads(path.read_text(encoding="utf-8"))["info"] == {"beta": 2}
    assert "Müller's ant" in path.read_text(encoding="utf-8")


def test_equal_thresholds_make_equal_bytes(tmp_path):
    for name in ("a", "b"):
        Thresholds(0.4, {"bee": 0.7}).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"default": 0.5, "classes": {"bee": 0.',
        '{"default": 0.5}',
        '{"classes": {}}',
        '{"default": 0.5, "classes": [0.1]}',
        '{"default": "high", "classes": {}}',
        '{"default": 0.5, "classes": {"bee": null}}',
        "[0.5]",
        '{"default": NaN, "classes": {}}',
        '{"default": 0.5, "classes": {"bee": NaN}}',
        '{"default": 0.5, "classes": {"bee": 1.01}}',
        '{"default": -0.1, "classes": {}}',
        '{"default": 0.5, "classes": {"bee": Infinity}}',
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(tmp_path, text):
    path = tmp_path / "thresholds.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"thresholds\.json (is no thresholds file|has the thres)"):
        Thresholds.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json does not exist"):
        Thresholds.load(tmp_path / "nowhere.json")

from __future__ import annotations

import pytest

from distill.utils.config_values import fit_value, shown


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (2.0, 1, 2),
        ("7", 1, 7),
        (3, 0.5, 3.0),
        ("1e-4", 0.5, 0.0001),
        ("true", False, True),
        ("False", True, False),
        ("TADF", (), ("TADF",)),
        ("('a', 'b')", (), ("a", "b")),
        ([1, 2], (), (1, 2)),
        ((1, 2), [], [1, 2]),
        (800, (640,), (800,)),
        (None, ("a",), ()),
        ("", ("a",), ()),
        (None, "BN", ""),
        ("None", "BN", ""),
        ("2024", "output", "2024"),
        ("'quoted'", "", "quoted"),
        ("a/b.yaml", "", "a/b.yaml"),
        ("[1, 2]", None, [1, 2]),
        (3, None, 3),
    ],
)
def test_what_cannot_be_a_mistake_becomes_the_keys_type(value, default, expected):
    fitted = fit_value(value, default, "KEY")
    assert fitted == expected and type(fitted) is type(expected)


@pytest.mark.parametrize(
    ("value", "default", "reason"),
    [
        (2.5, 1, "must be a whole number"),
        (True, 1, "must be a whole number"),
        ("many", 1, "must be a whole number"),
        (None, 1, "must be a whole number"),
        (None, 0.1, "must be a number"),
        (True, 0.1, "must be a number"),
        (float("nan"), 1, "must be a whole number"),
        (float("inf"), 1, "must be a whole number"),
        (1, True, "must be True or False"),
        ([1], 1, "must be a whole number"),
        ({"a": 1}, (), "must be a list"),
        ("(a, b)", (), "put its names in quotes"),
        ("{'a': 1}", (), "which is no list"),
        (7, "BN", "must be text: put it in quotes"),
        (False, "BN", "must be text: put it in quotes"),
        (["a"], "BN", "must be text"),
        ("{[]: 1}", 1, "must be a whole number"),
        ("[" * 9999, 1, "must be a whole number"),
    ],
)
def test_another_type_is_one_sentence(value, default, reason):
    with pytest.raises(ValueError, match=f"^KEY is .*{reason}"):
        fit_value(value, default, "KEY")


def test_a_long_value_is_shown_in_short():
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown(list(range(1000)))) < 70

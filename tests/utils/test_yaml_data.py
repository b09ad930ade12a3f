from __future__ import annotations

import pytest

from distill.utils.yaml_data import MOST_BYTES, parse_yaml

# 4^29 values, and 2^39 through merge keys.
ALIASES = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: {b: [1, 2.5, x, null, true]}", {"a": {"b": [1, 2.5, "x", None, True]}}),
        ("a: 1e-3\nb: [2E5, 1.5e3]", {"a": 0.001, "b": [2e5, 1500.0]}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: !!python/tuple [1, [2]]", {"a": (1, [2])}),
        ("a: &a {x: 1}\nb: {<<: *a, x: 2}", {"a": {"x": 1}, "b": {"x": 2}}),
        ('a: !!python/object/apply:eval ["[x / 2 for x in range(2)]"]', {"a": [0.0, 0.5]}),
        ("a: ü".encode(), {"a": "ü"}),
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        ("a: ü".encode("utf-16"), {"a": "ü"}),
    ],
)
def test_a_document_is_read_as_data(text, value):
    assert parse_yaml(text, "f") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a:\n\tb: 1", "in line 2, found character .* indent with spaces"),
        ("a: [1,\nb", "in line 2, expected ',' or ']'"),
        ("a: b: c", "in line 1"),
        ("b: 1\na: 2\na: 3", "in line 3, a is set twice"),
        ("m: {a: 1, a: 1}", "in line 1, a is set twice"),
        ("{[1]: 2}", "no list"),
        ("a: *b", "undefined alias"),
        ("--- 1\n--- 2", "another document"),
        ("a: !!int x", "invalid literal"),
        ("a: !!bool maybe", "maybe"),
        ("a: " + "9" * 6000, "digits"),
        ('a: "\\0"', "control characters"),
        ('a: "\\ud800"', "control characters"),
        (b"\x80\x04\x95abc", "byte 0 is no text"),
        ("a: ü".encode("latin1"), "no text"),
        ("[" * 1000, "nested too deeply"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
        ("a: &a [*a]", "an alias refers to what it is part of"),
        ("a: &a {<<: *a}", "an alias refers to what it is part of"),
        (ALIASES, "aliases make more values"),
        (MERGES, "aliases make more values"),
        ("a" * (MOST_BYTES + 1), "no config"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_with_its_line(text, reason):
    with pytest.raises(ValueError, match=f"^f\\.yaml .*{reason}") as caught:
        parse_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [{0}]",
        "!!python/object/new:os.mkdir [{0}]",
        "!!python/object/apply:eval [\"__import__('os').mkdir('{0}')\"]",
        "!!python/object/apply:exec [\"import os; os.mkdir('{0}')\"]",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!own {{}}",
        "!!binary aGk=",
        "!!set {{x}}",
        "!!timestamp 2020-01-01",
    ],
)
def test_a_tag_runs_nothing(tmp_path, value):
    proof = tmp_path / "proof"
    with pytest.raises(ValueError, match="in line 2, the (tag|expression)"):
        parse_yaml(f"b: 1\na: {value.format(proof)}", "f")
    assert not proof.exists()

from __future__ import annotations

import copy
import math
import pickle

import pytest

from distill.utils.key_limits import (
    anything,
    flag,
    list_of,
    number,
    one_of,
    optional,
    text,
    whole,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("limit", "allowed", "refused"),
    [
        (number(at_least=0), [0, 0.5, 7], [-0.1, NAN, INF, "1", None, True, [1]]),
        (number(above=0, at_most=1), [0.1, 1], [0, 1.1, NAN]),
        (number(at_least=0, below=1), [0, 0.9], [1, -1]),
        (number(), [-3, 0.5], [NAN, INF, -INF, "x"]),
        (number(above=0, also=(INF,)), [2.0, INF], [0, NAN, -INF]),
        (whole(at_least=1), [1, 10**9], [0, 1.0, True, "1", None]),
        (whole(at_least=1, also=(-1,)), [1, -1], [0, -2]),
        (whole(at_most=3), [3, -9], [4]),
        (one_of("a", ""), ["a", ""], ["b", "A", None, 1, ["a"]]),
        (text(), ["", "x"], [1, None, ["x"]]),
        (flag(), [True, False], [0, 1, "True", None]),
        (list_of(text()), [(), [], ["a", "a"]], ["a", None, [1], ["a", None]]),
        (list_of(text(), at_least=1, distinct=True), [("a", "b")], [(), ("a", "a")]),
        (list_of(number(), length=2), [(1, 2.5)], [(1,), (1, 2, 3), (1, NAN)]),
        (list_of(number(), length=(4, 5)), [(1,) * 4, (1,) * 5], [(1,) * 3]),
        (list_of(whole(), rising=True), [(), (1,), (1, 2)], [(1, 1), (2, 1)]),
        (list_of(number(above=0), nested=True), [[1], [[1, 2], [3]]], [[[1, 0]], [["a"]]]),
        (list_of(anything()), [["A.B", 1, None]], ["A.B 1"]),
        (optional(number(at_least=0)), [None, 0], [-1, "x"]),
    ],
)
def test_a_limit_allows_what_it_says_and_has_a_remedy_for_the_rest(limit, allowed, refused):
    assert [limit.remedy(value) for value in allowed] == [""] * len(allowed)
    remedies = [limit.remedy(value) for value in refused]
    assert all(remedies) and not any("\n" in remedy for remedy in remedies)


@pytest.mark.parametrize(
    ("limit", "value", "remedy"),
    [
        (number(above=0, at_most=1), 7, "it must be above 0 and at most 1"),
        (number(), NAN, "it must be finite"),
        (number(), "x", "it must be a number"),
        (whole(at_least=1), 0.5, "it must be a whole number at least 1"),
        (whole(at_least=1, also=(-1,)), 0, "it must be at least 1 or -1"),
        (one_of("code", "paper"), "cod", 'choose one of code, paper; did you mean "code"?'),
        (list_of(text(), distinct=True), ("p3", "p3"), "it may have 'p3' only once"),
        (list_of(number(above=0)), (1, 0), "of its entry 0: it must be above 0"),
    ],
)
def test_the_remedy_ends_the_sentence(limit, value, remedy):
    assert limit.remedy(value) == remedy


def test_a_limit_reads_shortly_in_the_list_of_keys():
    limits = (
        whole(at_least=1),
        number(at_least=0, below=1),
        one_of("a", ""),
        list_of(number(above=0), length=4),
        list_of(text(), at_least=1, distinct=True),
        optional(whole(at_least=0)),
        text(),
    )
    assert [str(limit) for limit in limits] == [
        "at least 1",
        "at least 0 and below 1",
        'a, ""',
        "each above 0; 4 entries",
        "not empty; none twice",
        "at least 0 or None",
        "",
    ]


def test_limits_are_copied_and_sent_with_a_config():
    limit = list_of(one_of("a"), distinct=True)
    assert copy.deepcopy(limit) == pickle.loads(pickle.dumps(limit)) == limit

from __future__ import annotations

from distill.utils.wording import some_of


def test_a_long_list_ends_in_dots():
    assert some_of("abc") == "a, b, c"
    assert some_of("abcd") == "a, b, c, ..."
    assert some_of("abcd", most=1) == "a, ..."

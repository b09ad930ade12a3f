from __future__ import annotations

import pytest

from distill.utils.expressions import evaluate


@pytest.mark.parametrize(
    "text",
    [
        "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]",
        "[int(x * 0.1 * 640) for x in range(5, 16)]",
        "(1, -2.5, 'p3', None, True, 7 // 2, 7 % 4, [])",
        "[[a * b for a in (1, 2)] for b in [3, 4]]",
    ],
)
def test_lists_of_numbers_are_what_python_makes_of_them(text):
    assert evaluate(text) == eval(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "open('x')",
        "[x for x in (1, 2) if x]",
        "[x for x, y in [(1, 2)]]",
        "lambda: 1",
        "{1: 2}",
        "f'{1}'",
        "int(*[1])",
        "b'x'",
        "x",
        "1 +",
        "'a' * 10**9",
        "[0] * 10**9",
        "1 / 0",
        "",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError):
        evaluate(text)


@pytest.mark.parametrize(
    "text",
    [
        "2**10**10",
        "9**9**9**9",
        "(-8)**(1/3)",
        "range(10**12)",
        "[[0 for x in range(9000)] for y in range(9000)]",
        "1e400",
        "(" * 400 + ")" * 400,
        "1+" * 2000 + "1",
    ],
)
def test_what_would_take_a_day_or_all_memory_is_refused_at_once(text):
    with pytest.raises(ValueError):
        evaluate(text)

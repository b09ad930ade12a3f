"""Expressions in configs, computed as data.

Some of Detectron2's own configs compute a list under the YAML tag ``!!python/object/apply:eval``:
``[[x, x * 2**(1.0/3)] for x in [32, 64]]`` or ``[int(x * 64) for x in range(5, 16)]``. What such
lists are made of is computed here from the syntax tree, and nothing else: no attribute, no call but
int and range, no name but a comprehension's, no number and no list that grows without bounds.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["evaluate"]

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_LONGEST_TEXT = 1000
_LARGEST_NUMBER = 1e15
_MOST_VALUES = 10_000


def evaluate(text: str) -> Any:
    """The value of an expression of numbers, texts, lists and comprehensions.

    Args:
        text: the expression, in Python's syntax.

    Raises:
        ValueError: if it is anything else, or too large.
    """
    try:
        if len(text) > _LONGEST_TEXT:
            raise ValueError("it is too long")
        return _Evaluation().value(ast.parse(text.strip(), mode="eval").body, {})
    except (SyntaxError, ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error


class _Evaluation:
    """One evaluation, which may make so many values and no more."""

    def __init__(self) -> None:
        self.left = _MOST_VALUES

    def value(self, node: ast.AST, names: Mapping[str, Any]) -> Any:
        """The value of a part of the expression, given those of its comprehensions' names."""
        self._spend(1)
        if isinstance(node, ast.Constant):
            return _bounded(node.value)
        if isinstance(node, ast.Name) and node.id in names:
            return names[node.id]
        if isinstance(node, (ast.List, ast.Tuple)):
            values = [self.value(element, names) for element in node.elts]
            return values if isinstance(node, ast.List) else tuple(values)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -_number(self.value(node.operand, names))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            sides = (_number(self.value(side, names)) for side in (node.left, node.right))
            return _compute(type(node.op), *sides)
        if isinstance(node, ast.ListComp) and len(node.generators) == 1:
            return self._comprehension(node.elt, node.generators[0], names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, [_number(self.value(x, names)) for x in node.args])
        raise ValueError(f"{type(node).__name__} is not computed")

    def _comprehension(
        self, element: ast.expr, generator: ast.comprehension, names: Mapping[str, Any]
    ) -> list[Any]:
        plain = isinstance(generator.target, ast.Name) and not generator.ifs
        values = self.value(generator.iter, names)
        if not plain or not isinstance(values, (list, tuple)):
            raise ValueError("a comprehension runs one name through one list")
        return [self.value(element, {**names, generator.target.id: x}) for x in values]

    def _call(self, name: str, arguments: list[float]) -> Any:
        if name == "int" and len(arguments) == 1:
            return int(*arguments)
        if name == "range":
            values = range(*arguments)
            self._spend(len(values))
            return list(values)
        raise ValueError(f"{name} is not called")

    def _spend(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise ValueError("it makes too many values")


def _number(value: Any) -> Any:
    if type(value) not in (int, float):
        raise ValueError(f"{value!r} is no number")
    return value


def _compute(kind: type, left: float, right: float) -> Any:
    if kind is ast.Pow:
        # In floating point first: 2**10**10 ends in an overflow there, not in a day of computing.
        _bounded(float(left) ** float(right))
    return _bounded(_OPERATORS[kind](left, right))


def _bounded(value: Any) -> Any:
    """A constant or a result, unless it is a number that no config needs, or of another kind."""
    if not isinstance(value, (int, float, str, type(None))):
        raise ValueError(f"{value!r} is neither number nor text")
    if isinstance(value, (int, float)) and not abs(value) < _LARGEST_NUMBER:
        raise ValueError("a number is too large")
    return value

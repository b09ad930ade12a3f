"""Who may import whom: each room only what stands to its left, and nothing outside the library."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# From left to right; rooms of one line do not know each other.
ORDER = (
    ("utils", "ops"),
    ("losses",),
    ("views",),
    ("modeling", "methods"),
    ("data",),
    ("config",),
    ("build",),
    ("checks", "distiller"),
    ("labeling",),
    ("engine", "deploy"),
)
PLACE = {room: place for place, rooms in enumerate(ORDER) for room in rooms}
OUTSIDE = {"scripts", "projects", "configs", "tests", "experiments", "benchmark", "pretraining"}
# The package itself imports its rooms; it has no room.
FILES = [x for x in sorted((ROOT / "distill").rglob("*.py")) if x != ROOT / "distill/__init__.py"]


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a file, or a part of one, imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "distill").parts[0].removesuffix(".py")


def test_every_file_is_in_a_room() -> None:
    assert {room_of(path) for path in FILES} == set(PLACE)


def test_a_room_imports_only_what_stands_to_its_left() -> None:
    for path in FILES:
        own = room_of(path)
        for name in imported(ast.parse(path.read_text())):
            top, *rest = name.split(".")
            assert top and top not in OUTSIDE, f"{path} imports {name}"
            if top == "distill":
                left = rest and (rest[0] == own or PLACE.get(rest[0], 99) < PLACE[own])
                assert left, f"{path} imports {name}"


def test_losses_and_operations_know_torch_alone() -> None:
    for path in FILES:
        if room_of(path) in ("ops", "losses"):
            names = {x.split(".")[0] for x in imported(ast.parse(path.read_text()))}
            foreign = names - sys.stdlib_module_names - {"torch", "torchvision", "distill"}
            assert not foreign, path


def test_no_function_imports_the_library_to_dodge_a_circle() -> None:
    for path in FILES:
        functions = (x for x in ast.walk(ast.parse(path.read_text())) if hasattr(x, "args"))
        inside = [name for function in functions for name in imported(function)]
        assert not [name for name in inside if name.startswith("distill")], path


def test_no_file_knows_the_repository_around_the_library() -> None:
    found = {
        str(path): paths
        for path in FILES
        if (paths := re.findall(r"\b(?:scripts|projects|configs)/[\w./]*", path.read_text()))
    }
    assert not found


def test_no_test_imports_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        names = imported(ast.parse(path.read_text()))
        assert not [x for x in names if re.search(r"(^|\.)(test_|conftest\b)", x)], path

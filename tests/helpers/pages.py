"""The repository's Markdown pages, and what a reader may copy from them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "projects/*/README.md")
    for path in ROOT.glob(pattern)
)
PYTHON = ".venv/bin/python"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, "" for those that name none."""
    return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text())


def files(page: Path) -> dict[str, str]:
    """The YAML blocks that name their file in a comment on the first line."""
    found = {}
    for text in blocks(page, "yaml"):
        first = text.splitlines()[0]
        if first.startswith("# ") and first.endswith(".yaml"):
            found[first.removeprefix("# ")] = text
    return found


def commands(page: Path) -> list[list[str]]:
    """The lines that start with the environment's interpreter, as lists of words."""
    lines = [
        line.strip()
        for language in ("", "sh", "bash")
        for text in blocks(page, language)
        for line in text.replace("\\\n", " ").splitlines()
    ]
    return [
        # What follows a # on the same line is a remark.
        shlex.split(line, comments=True)[1:]
        for line in lines
        if line.startswith(f"{PYTHON} ") or line.startswith(f'"{PYTHON}" ')
    ]

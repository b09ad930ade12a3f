from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers.pages import PAGES, ROOT, name, prose

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HTML = re.compile(r'(?:src|href)="([^"]+)"')
_CODE = re.compile(r"`[^`\n]*`")


def _targets(page: Path) -> list[str]:
    text = prose(page)
    # A link's text may be code, but code is no link.
    text = _CODE.sub(lambda match: match[0].replace("(", "").replace("[", ""), text)
    return [*_LINK.findall(text), *_HTML.findall(text)]


def _anchors(page: Path) -> set[str]:
    """The anchors that code hosts give to headings."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.*?) *$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (unique := f"{anchor}-{number}" if number else anchor) in anchors:
            number += 1
        anchors.add(unique)
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _targets(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        inside = file.is_relative_to(ROOT) and file.exists()
        if not inside or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert not broken


def test_every_page_of_docs_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in _targets(page)
        if "://" not in target
    }
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert not {name(page) for page in pages - linked}


def test_every_guarantee_links_a_file_of_tests() -> None:
    page = ROOT / "docs" / "reference" / "guarantees.md"
    promises = re.split(r"^- ", page.read_text().partition("\n## ")[2], flags=re.MULTILINE)[1:]
    assert promises
    for promise in promises:
        tests = [target for target in _LINK.findall(promise) if "/tests/" in target]
        assert tests, promise
        for test in tests:
            assert "\ndef test_" in (page.parent / test).read_text(), test


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130

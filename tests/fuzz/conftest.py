"""Options of the tries, and a table of how they ended."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fuzz.surfaces import TRIES

_COLUMNS = ("right", "refused", "traceback", "silent", "hang")
_OTHERS = ("unclear", "status", "changed", "too strict")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzz")
    text = f"inputs that tests/fuzz tries, all surfaces together (default: {TRIES})"
    group.addoption("--tries", type=int, default=TRIES, metavar="N", help=text)
    group.addoption("--first-seed", type=int, default=0, metavar="K", help="seed of the first")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts: dict[str, Counter] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "tries" and report.when == "call":
                    counts[value["surface"]] = Counter(value["kinds"])
    if not counts:
        return
    counts["all"] = sum(counts.values(), Counter())
    titles = ("surface", "tries", *_COLUMNS, "other")
    terminalreporter.section("tries")
    terminalreporter.write_line("| " + " | ".join(titles) + " |")
    terminalreporter.write_line("|---" + "|--:" * (len(titles) - 1) + "|")
    for surface, kinds in counts.items():
        row = [kinds[name] for name in _COLUMNS] + [sum(kinds[name] for name in _OTHERS)]
        cells = map(str, (surface, sum(kinds.values()), *row))
        terminalreporter.write_line("| " + " | ".join(cells) + " |")

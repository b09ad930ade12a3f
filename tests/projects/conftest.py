"""Teachers' configs are named relative to the working directory."""

from __future__ import annotations

import pytest
from helpers.recipes import ROOT


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

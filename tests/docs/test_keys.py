from __future__ import annotations

import os
import subprocess
import sys

from helpers.pages import ROOT


def test_the_list_of_keys_is_current() -> None:
    # In a process of its own: a paper's package that another test imports has keys too.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = str(ROOT / "scripts" / "list_keys.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "reference" / "keys.md").read_text()
    assert page == done.stdout, "run scripts/list_keys.py > docs/reference/keys.md"


def test_every_key_has_a_meaning() -> None:
    page = (ROOT / "docs" / "reference" / "keys.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows and not [row for row in rows if not row.split("|")[-2].strip()]

"""What ends with 0 did what was asked; all else is 2 and one sentence that names file or key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from helpers.tries import carry_out, told

from fuzz.surfaces import SURFACES, TRIES


# Every try has a limit of its own.
@pytest.mark.timeout(0)
@pytest.mark.parametrize("surface", SURFACES)
def test_every_input_is_taken_rightly_or_refused_in_a_sentence(
    surface: str, request: pytest.FixtureRequest, record_property: Any
) -> None:
    option = request.config.getoption
    # pytest knows the options where tests/fuzz is named, and takes the defaults elsewhere.
    number, first = -(-option("--tries", TRIES) // len(SURFACES)), option("--first-seed", 0)
    ended = [carry_out(surface, seed) for seed in range(first, first + number)]
    kinds = Counter(x["kind"] for x in ended)
    record_property("tries", {"surface": surface, "kinds": dict(kinds)})
    faults = [told(x) for x in ended if not x["good"]]
    assert not faults, "\n\n".join(faults)

"""Whatever is wrong with an input of a command: status 2, one sentence, nothing left behind."""

from __future__ import annotations

import pytest
from fuzz.surfaces.wrong_inputs import LINES, some_of_each
from helpers.tries import carry_out, told


@pytest.mark.timeout(0)
@pytest.mark.parametrize("command", LINES)
def test_a_command_refuses_what_is_wrong_and_takes_what_is_right(command: str) -> None:
    ended = [carry_out("wrong_inputs", name) for name in some_of_each(command)]
    faults = [told(x) for x in ended if not x["good"]]
    assert not faults, "\n\n".join(faults)

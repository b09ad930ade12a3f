"""The rule of a try: 0 and right, or 2 and one sentence that names the file or the key."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Command", "Expected", "Try", "Verdict", "judge", "snapshot"]

Expected = Literal["same", "unharmed", "taken", "refused", "either"]

# What a run directory may hold after a refusal.
_LOGS = re.compile(
    r"(log\.txt.*|config\.yaml|env\.txt|metrics\.json|events\.out\..*|"
    r"inference(/.*)?|last_checkpoint|.*\.lock|unlabeled(/.*)?)$"
)
_KEY = re.compile(r"\b[A-Z]\w*(\.\w+)*\.[A-Z][A-Z_\d]+\b|MODEL makes no detector")
_MOST = 900


@dataclass(frozen=True)
class Command:
    """A command line that reads one file, and how to see what it made of it.

    Attributes:
        name: unique, for references.
        script: name of a script.
        arguments: from the file and the output to the command line.
        observe: from the output, the file and what was said to plain values, which are equal if
            the command did the same.
        logs: the output is a run directory, which may hold logs after a refusal.
        prepare: from the file and the output, puts there what the command is to find.
    """

    name: str
    script: str
    arguments: Callable[[Path, Path], Sequence[str]]
    observe: Callable[[Path, Path, str], Any]
    logs: bool = False
    prepare: Callable[[Path, Path], None] = lambda file, out: None


@dataclass(frozen=True)
class Try:
    """One input and what is known about it.

    Attributes:
        what: what is wrong with it, for whoever reads the report.
        command: what it is given to.
        file: the file.
        expected: "same": it means what the proper file means; "unharmed": so, or refused;
            "taken": whatever it means; "refused"; or "either".
        names: one of these must stand in a refusal.
        any_key: or any key of a config.
        check: verifies what was observed, beyond that; returns a complaint or "".
    """

    what: str
    command: Command
    file: Path
    expected: Expected
    names: tuple[str, ...]
    any_key: bool = False
    check: Callable[[Any], str] = lambda observed: ""


@dataclass(frozen=True)
class Verdict:
    """How a try ended.

    Attributes:
        kind: "right", "refused", or a fault: "traceback", "silent", "hang", "unclear" (the
            sentence), "status", "changed" (other files), "too strict".
        why: in words.
    """

    kind: str
    why: str = ""

    @property
    def good(self) -> bool:
        """Whether the rule was kept."""
        return self.kind in ("right", "refused")


def judge(
    attempt: Try, status: int | None, said: str, observed: Any, reference: Any, changed: list[str]
) -> Verdict:
    """Applies the rule.

    Args:
        attempt: the try.
        status: exit status; None of a process that died.
        said: what it wrote.
        observed: what the command observed, if the status is 0.
        reference: the same of the proper file.
        changed: files that are others than before.
    """
    if status is None:
        return Verdict("traceback", "the process died")
    if "Traceback (most recent call last)" in said:
        return Verdict("traceback", _last_error(said))
    if status == 2:
        return _judge_refusal(attempt, said, changed)
    if status != 0:
        return Verdict("status", f"it ended with {status}")
    return _judge_success(attempt, observed, reference, changed)


def _judge_refusal(attempt: Try, said: str, changed: list[str]) -> Verdict:
    sentences = re.findall(r"^(?:\w+\.py(?: \w+)?: )?error: (.*)$", said, re.MULTILINE)
    if len(sentences) != 1:
        return Verdict("unclear", f"{len(sentences)} lines begin with error:")
    sentence = sentences[0]
    if len(sentence) > _MOST:
        return Verdict("unclear", f"the sentence has {len(sentence)} characters")
    if not said.rstrip().endswith(sentence.rstrip()):
        return Verdict("unclear", "the sentence goes on in another line")
    if not any(name in sentence for name in attempt.names) and not (
        attempt.any_key and _KEY.search(sentence)
    ):
        return Verdict("unclear", f"it names neither file nor key: {sentence}")
    left = [x for x in changed if not (attempt.command.logs and _is_log(x))]
    if left:
        return Verdict("changed", f"left behind or changed: {left[:3]}")
    if attempt.expected in ("same", "taken"):
        return Verdict("too strict", sentence)
    return Verdict("refused", sentence)


def _judge_success(attempt: Try, observed: Any, reference: Any, changed: list[str]) -> Verdict:
    outside = [x for x in changed if x.split("/")[0] != "out"]
    if outside:
        return Verdict("changed", f"changed: {outside[:3]}")
    if attempt.expected == "refused":
        return Verdict("silent", "it ended with 0")
    if not _finite(observed):
        return Verdict("silent", f"not finite: {observed}"[:_MOST])
    if attempt.expected in ("same", "unharmed") and observed != reference:
        return Verdict("silent", f"another result: {_difference(observed, reference)}")
    complaint = attempt.check(observed)
    return Verdict("silent", complaint) if complaint else Verdict("right")


def _finite(value: Any) -> bool:
    """Whether all numbers in plain values are finite."""
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            state = path.lstat()
            found[path.relative_to(folder).as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


def _is_log(name: str) -> bool:
    return name.startswith("out/") and _LOGS.match(name.removeprefix("out/")) is not None


def _last_error(said: str) -> str:
    lines = re.findall(r"^[\w.]*(?:Error|Exception|Exit|Interrupt)\b.*$", said, re.MULTILINE)
    return lines[-1][:300] if lines else "a traceback"


def _difference(observed: Any, reference: Any) -> str:
    if isinstance(observed, dict) and isinstance(reference, dict):
        for key in reference:
            if observed.get(key) != reference[key]:
                return f"{key}: {_difference(observed.get(key), reference[key])}"
    return f"{str(observed)[:250]} instead of {str(reference)[:250]}"

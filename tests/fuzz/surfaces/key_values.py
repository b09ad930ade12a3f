"""Values for a key by the type of its default: wrong types, no numbers, extremes, unknown names."""

from __future__ import annotations

import random
from typing import Any

from fuzz.judge import Expected

NAN, INF = float("nan"), float("inf")
# Keys whose large values are processes, memory or time that was asked for.
_COSTLY = ("NUM_WORKERS", "IMS_PER_BATCH", "REFERENCE_WORLD_SIZE", "PREFETCH", "RESOLUTION")


_PATHS = ("THRESHOLDS", "CACHE_DIR", "CLASSES_OF", "CONFIG_FILE", "WEIGHTS")


def value_for(key: str, default: Any, rng: random.Random) -> tuple[Any, Expected]:
    """A value for a key, and whether it must be refused."""
    return rng.choice(_choices(key, default))


def _choices(key: str, default: Any) -> list[tuple[Any, Expected]]:
    ours = key.startswith("DISTILL.")
    if isinstance(default, bool):
        return _all("refused", "maybe", [True], 5, -1.5, {"A": 1}) + _all("either", True, False)
    if isinstance(default, int):
        return _integers(key)
    if isinstance(default, float):
        return _floats(key, ours)
    if isinstance(default, str):
        return _texts(key)
    if isinstance(default, tuple | list):
        return _lists(key, default)
    return _all("either", "x", 3, [1])


def _integers(key: str) -> list[tuple[Any, Expected]]:
    # yacs lets nothing pass for any value, and few keys of Detectron2's are read in a run.
    nothing: Expected = "refused" if key.startswith("DISTILL.") else "either"
    wrong = _all("refused", "three", [1], 1.5, NAN, INF, {"A": 1}) + [(None, nothing)]
    many = [] if key.rpartition(".")[2] in _COSTLY else [(10**4, "either")]
    return wrong + _all("either", 0, -1, -(10**9), 1, True, "") + many


def _floats(key: str, ours: bool) -> list[tuple[Any, Expected]]:
    nothing: Expected = "refused" if ours else "either"
    wrong = _all("refused", "half", [0.5], NAN, {"A": 1}) + [(None, nothing)]
    weight = key.endswith(("WEIGHT", "FACTOR", "TEMPERATURE", "FRACTION"))
    negative: Expected = "refused" if ours and weight else "either"
    infinite: Expected = "refused" if ours else "either"
    extremes = _all("either", 0.0, 1e-30, 1e30, 7.0, 1)
    return wrong + extremes + [(-1.0, negative), (INF, infinite), (-INF, infinite)]


def _texts(key: str) -> list[tuple[Any, Expected]]:
    # A path, or one of Detectron2's keys, may be any text where nothing reads it.
    free = not key.startswith("DISTILL.") or key.endswith(_PATHS)
    wrong: Expected = "either" if free else "refused"
    return _all(wrong, [1, 2], 1.5, {"A": 1}) + _all("either", "", "Nothing", "giou2", 5, None)


def _lists(key: str, default: Any) -> list[tuple[Any, Expected]]:
    same = list(default)
    wrong: Expected = "refused" if key.startswith("DISTILL.") else "either"
    choices = _all(wrong, 5.5, {"A": 1}) + _all(
        "either", [], ["nothing"], [NAN], [INF], [-1], [0], [None], [[]], "nothing", 7, same + same
    )
    return choices + [(same[:-1], "either")] if same else choices


def _all(expected: Expected, *values: Any) -> list[tuple[Any, Expected]]:
    return [(value, expected) for value in values]

"""Changes of what files of pseudo labels have beyond COCO's, and of files of thresholds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from fuzz.judge import Expected

Content = dict[str, Any]
Mutation = Callable[[Content, random.Random], tuple[str, Expected]]

NAN, INF = float("nan"), float("inf")
HEADERS: dict[str, Mutation] = {}
THRESHOLDS: dict[str, Mutation] = {}


def _header(change: Mutation) -> Mutation:
    HEADERS[change.__name__] = change
    return change


def _threshold(change: Mutation) -> Mutation:
    THRESHOLDS[change.__name__] = change
    return change


def _put(node: Content, key: str, value: Any) -> str:
    if value == "missing":
        node.pop(key, None)
    else:
        node[key] = value
    return f"{key}: {value!r}"


@_header
def score(content: Content, rng: random.Random) -> tuple[str, Expected]:
    expected: Expected = rng.choice(("refused", "refused", "either"))
    wrong = (NAN, INF, -INF, 1.5, -0.1, None, [0.5], {}, "high", 10**400)
    value = rng.choice(wrong if expected == "refused" else (True, "0.9", 0, 1, "missing", 1e-300))
    boxes = content["annotations"]
    for box in boxes if rng.random() < 0.5 else [rng.choice(boxes)]:
        what = _put(box, "score", value)
    return what, expected


@_header
def score_as_text(content: Content, rng: random.Random) -> tuple[str, Expected]:
    for box in content["annotations"]:
        box["score"] = str(box["score"])
    return "all scores as text", "same"


@_header
def teacher(content: Content, rng: random.Random) -> tuple[str, Expected]:
    box = rng.choice(content["annotations"])
    return _put(box, "teacher", rng.choice((None, 5, ["a"], {}, "", "missing", "x\ny"))), "either"


@_header
def teachers(content: Content, rng: random.Random) -> tuple[str, Expected]:
    value = rng.choice((None, [], 5, "x", {"teacher": None}, {"teacher": []}, "missing", {5: 5}))
    return _put(content["info"], "teachers", value), "either"


@_header
def image_root(content: Content, rng: random.Random) -> tuple[str, Expected]:
    value = rng.choice((None, "", "no/folder", 5, ["images"], {}, "missing", "a\0b", "x" * 300))
    return _put(content["info"], "image_root", value), "refused"


@_header
def dataset(content: Content, rng: random.Random) -> tuple[str, Expected]:
    value = rng.choice(("no_such_dataset", 5, [], {}, "", "missing", True, "coco_2017_val"))
    return _put(content["info"], "dataset", value), "either"


@_header
def score_floor(content: Content, rng: random.Random) -> tuple[str, Expected]:
    value = rng.choice((NAN, -1, 2, "x", None, [], "missing"))
    return _put(content["info"], "score_floor", value), "either"


@_header
def info(content: Content, rng: random.Random) -> tuple[str, Expected]:
    return _put(content, "info", rng.choice((None, [], "x", 5, "missing", {}, [1]))), "refused"


@_header
def format_of(content: Content, rng: random.Random) -> tuple[str, Expected]:
    return _put(content["info"], "format", rng.choice((0, 2, None, "x", "missing"))), "either"


@_header
def more(content: Content, rng: random.Random) -> tuple[str, Expected]:
    content["info"]["note"] = rng.choice((None, [1], "x"))
    content["images"][0]["license"] = 3
    content["annotations"][0]["note"] = "seen"
    return "more keys", "same"


@_threshold
def default(content: Content, rng: random.Random) -> tuple[str, Expected]:
    value = rng.choice((NAN, INF, -0.1, 1.5, "high", None, [], {}, "missing"))
    return _put(content, "default", value), "refused"


@_threshold
def one_class(content: Content, rng: random.Random) -> tuple[str, Expected]:
    value = rng.choice((NAN, INF, -0.1, 1.5, "high", None, [], {}))
    return _put(content["classes"], "ant", value), "refused"


@_threshold
def classes(content: Content, rng: random.Random) -> tuple[str, Expected]:
    value = rng.choice((None, [], "x", 5, "missing", [["ant", 0.4]]))
    return _put(content, "classes", value), "refused"


@_threshold
def another_class(content: Content, rng: random.Random) -> tuple[str, Expected]:
    return _put(content["classes"], rng.choice(("cow", "", "ANT")), 0.4), "either"


@_threshold
def as_text(content: Content, rng: random.Random) -> tuple[str, Expected]:
    content["default"] = str(content["default"])
    return "default as text", "either"


@_threshold
def header(content: Content, rng: random.Random) -> tuple[str, Expected]:
    return _put(content, "info", rng.choice((None, [], 5, "missing"))), "same"

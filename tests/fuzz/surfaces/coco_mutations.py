"""Changes of a COCO file: each says what it did, and whether the file means the same after it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from fuzz.judge import Expected

Content = dict[str, Any]
Mutation = Callable[[Content, random.Random], tuple[str, Expected]]

NAN, INF = float("nan"), float("inf")
MUTATIONS: dict[str, Mutation] = {}
_POLYGON = [[4, 5, 28, 5, 28, 27, 4, 27]]
_RLE = {"size": [48, 64], "counts": [245, 22, 3050 - 245]}


def mutation(change: Mutation) -> Mutation:
    """Decorates a change."""
    MUTATIONS[change.__name__] = change
    return change


def set_one_or_all(
    items: list[dict], key: str, choices: list, rng: random.Random
) -> tuple[str, Expected]:
    """Sets a key of one or of all items to one of the values; a function is given the old one."""
    value, expected = rng.choice(choices)
    chosen = items if rng.random() < 0.4 else [rng.choice(items)]
    for item in chosen:
        if value is GONE:
            item.pop(key, None)
        else:
            item[key] = value(item.get(key)) if callable(value) else value
    shown = "a function" if callable(value) else repr(value)[:60]
    return f"{key} of {len(chosen)} of {len(items)}: {shown} ({expected})", expected


class _Gone:
    def __repr__(self) -> str:
        return "missing"


GONE = _Gone()


@mutation
def bbox(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [
        (lambda box: [str(x) for x in box], "same"),
        (lambda box: [float(x) for x in box], "same"),
        (lambda box: box[:3], "refused"),
        (lambda box: [*box, 1], "refused"),
        (lambda box: [NAN, *box[1:]], "refused"),
        (lambda box: [*box[:3], INF], "refused"),
        (lambda box: [-INF, *box[1:]], "refused"),
        (lambda box: [*box[:2], -5, 4], "refused"),
        (lambda box: [*box[:2], 0, 4], "either"),
        (lambda box: [1e300, 0, 3, 3], "either"),
        (lambda box: [100, 100, 20, 20], "either"),
        (lambda box: [-10, -10, 30, 30], "either"),
        (lambda box: [None, *box[1:]], "refused"),
        (lambda box: ["four", *box[1:]], "refused"),
        (lambda box: [[*box]], "refused"),
        (lambda box: [True, *box[1:]], "either"),
        ({"x": 1, "y": 2, "w": 3, "h": 4}, "refused"),
        ("4 5 24 22", "either"),
        ([], "refused"),
        (None, "refused"),
        (7, "refused"),
        (GONE, "refused"),
    ]
    return set_one_or_all(content["annotations"], "bbox", changes, rng)


@mutation
def iscrowd(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [
        *((value, "same") for value in (None, GONE, False, "0", 0.0, "")),
        *((value, "refused") for value in (2, -1, "yes", NAN, [0], {})),
        *((value, "either") for value in (1, True, "1")),
    ]
    return set_one_or_all(content["annotations"], "iscrowd", changes, rng)


@mutation
def area(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [(value, "same") for value in (GONE, None, "528", 528.0)]
    changes += [(value, "either") for value in (-1, 0, "big", NAN, [528], 1e300)]
    return set_one_or_all(content["annotations"], "area", changes, rng)


@mutation
def segmentation(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [(value, "same") for value in ([], None, _POLYGON, _RLE, [[1, 2, 3, 4]], [[]])]
    changes += [(value, "either") for value in ([[1, 2, 3]], {"size": [9, 9]}, "x", 3, [[NAN] * 8])]
    changes += [({"size": [48, 64], "counts": b"\xff\x01".decode("latin-1")}, "either")]
    return set_one_or_all(content["annotations"], "segmentation", changes, rng)


@mutation
def size(content: Content, rng: random.Random) -> tuple[str, Expected]:
    key = rng.choice(("width", "height"))
    changes = [
        (str, "same"),
        (float, "same"),
        (GONE, "either"),
        (None, "either"),
        *((value, "refused") for value in (0, -3, NAN, INF, 63.5, "wide", [64], {}, 10**30, "")),
        *((value, "either") for value in (True, "64 px")),
    ]
    return set_one_or_all(content["images"], key, changes, rng)


@mutation
def size_swapped(content: Content, rng: random.Random) -> tuple[str, Expected]:
    for image in content["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    return "width and height swapped", "refused"


@mutation
def file_name(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [
        (lambda name: f"./{name}", "same"),
        (lambda name: f".\\{name}", "same"),
        (lambda name: f"images/{name}", "same"),
        (lambda name: f"data\\images\\{name}", "either"),
        (lambda name: f"../images/{name}", "either"),
        *((value, "refused") for value in (GONE, None, "", 17, ["1.png"], {}, "a\0b", ".", "..")),
    ]
    return set_one_or_all(content["images"], "file_name", changes, rng)


@mutation
def image_missing(content: Content, rng: random.Random) -> tuple[str, Expected]:
    rng.choice(content["images"])["file_name"] = "elsewhere.png"
    return "an image that is not there", "refused"


@mutation
def part(content: Content, rng: random.Random) -> tuple[str, Expected]:
    name = rng.choice(("images", "annotations", "categories"))
    value = rng.choice((GONE, None, {}, "x", 5, [None], [[]], ["x"], [5]))
    content.pop(name)
    if value is not GONE:
        content[name] = value
    return f"{name}: {value!r}", "refused"


@mutation
def no_boxes(content: Content, rng: random.Random) -> tuple[str, Expected]:
    content["annotations"] = []
    return "no annotation", "refused"


@mutation
def no_images(content: Content, rng: random.Random) -> tuple[str, Expected]:
    content["images"] = []
    content["annotations"] = []
    return "no image", "refused"


@mutation
def rest(content: Content, rng: random.Random) -> tuple[str, Expected]:
    name = rng.choice(("info", "licenses", "videos"))
    value = rng.choice((GONE, None, {}, [], "x", 5))
    content.pop(name, None)
    if value is not GONE:
        content[name] = value
    return f"{name}: {value!r}", "same" if name != "info" or value in (None, {}) else "either"


@mutation
def only_annotations(content: Content, rng: random.Random) -> tuple[str, Expected]:
    boxes = content["annotations"]
    content.clear()
    content["annotations"] = boxes
    return "annotations alone", "refused"


@mutation
def anything(content: Content, rng: random.Random) -> tuple[str, Expected]:
    kind = rng.choice(("images", "annotations", "categories"))
    item = rng.choice(content[kind])
    key = rng.choice(sorted(item))
    item[key] = rng.choice((None, True, -1, 0, 2**70, 1e308, NAN, "", "x", [], [1], {}, {"a": 1}))
    return f"{key} of one of {kind}: {item[key]!r}", "either"

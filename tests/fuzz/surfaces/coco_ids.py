"""Changes of the ids and the classes of a COCO file, beside those of `coco_mutations`."""

from __future__ import annotations

import random

from fuzz.judge import Expected
from fuzz.surfaces.coco_mutations import GONE, NAN, Content, mutation, set_one_or_all


@mutation
def image_ids(content: Content, rng: random.Random) -> tuple[str, Expected]:
    change, shown = rng.choice(
        [
            (str, "text"),
            (lambda i: 2**60 + i, "2^60"),
            (lambda i: i - 1, "from 0"),
            (lambda i: f"{i}.png", "names"),
            (lambda i: -i, "negative"),
            (lambda i: 2**80 + i, "2^80"),
            (lambda i: float(i), "floats"),
        ]
    )
    for image in content["images"]:
        image["id"] = change(image["id"])
    for box in content["annotations"]:
        box["image_id"] = change(box["image_id"])
    return f"image ids: {shown}", "same"


@mutation
def image_ids_as_text_in_boxes(content: Content, rng: random.Random) -> tuple[str, Expected]:
    for box in content["annotations"]:
        box["image_id"] = str(box["image_id"])
    return "image_id as text, ids as numbers", "same"


@mutation
def image_id_of_box(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [(value, "refused") for value in (99, None, GONE, [1], {}, NAN, "x")]
    return set_one_or_all(content["annotations"], "image_id", changes, rng)


@mutation
def id_of_image(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [(value, "refused") for value in (None, GONE, [1], {}, NAN)]
    return set_one_or_all(content["images"], "id", changes, rng)


@mutation
def image_twice(content: Content, rng: random.Random) -> tuple[str, Expected]:
    content["images"].append(dict(content["images"][0], file_name="2.png"))
    return "two images of one id", "refused"


@mutation
def id_of_box(content: Content, rng: random.Random) -> tuple[str, Expected]:
    change, expected = rng.choice(
        [
            (lambda i: i - content["annotations"][0]["id"], "same"),
            (str, "same"),
            (lambda i: 2**60 + i, "same"),
            (lambda i: f"box {i}", "same"),
            (lambda i: 1, "either"),
            (lambda i: None, "either"),
            (lambda i: [i], "either"),
        ]
    )
    for box in content["annotations"]:
        box["id"] = change(box["id"])
    return f"ids of boxes: {content['annotations'][0]['id']!r}, ... ({expected})", expected


@mutation
def category_ids(content: Content, rng: random.Random) -> tuple[str, Expected]:
    change, shown = rng.choice(
        [
            (lambda i: i - 1, "from 0"),
            (lambda i: 10 * i, "with gaps"),
            (lambda i: 2**60 + i, "2^60"),
            (str, "text"),
            (float, "floats"),
        ]
    )
    for category in content["categories"]:
        category["id"] = change(category["id"])
    for box in content["annotations"]:
        box["category_id"] = change(box["category_id"])
    return f"category ids: {shown}", "same"


@mutation
def category_of_box(content: Content, rng: random.Random) -> tuple[str, Expected]:
    changes = [(value, "refused") for value in (99, 0, -1, None, GONE, [1], {}, NAN, "ant?", 1.5)]
    changes += [(str, "same"), (float, "same")]
    return set_one_or_all(content["annotations"], "category_id", changes, rng)


@mutation
def category_entry(content: Content, rng: random.Random) -> tuple[str, Expected]:
    key = rng.choice(("id", "name"))
    # The name alone may be anything that is text.
    changes = [(value, "refused") for value in (None, GONE, [1], {}, NAN)]
    if key == "name":
        changes += [(value, "either") for value in ("", "  ", "änt", "a" * 300, 7, "a\nb", "a|b")]
    return set_one_or_all(content["categories"], key, changes, rng)


@mutation
def class_twice(content: Content, rng: random.Random) -> tuple[str, Expected]:
    key = rng.choice(("id", "name"))
    content["categories"][1][key] = content["categories"][0][key]
    return f"two categories of one {key}", "refused"


@mutation
def categories_in_another_order(content: Content, rng: random.Random) -> tuple[str, Expected]:
    for part in ("categories", "images", "annotations"):
        rng.shuffle(content[part])
    return "all lists shuffled", "same"


@mutation
def root_category(content: Content, rng: random.Random) -> tuple[str, Expected]:
    content["categories"].insert(0, {"id": 0, "name": "insects", "supercategory": "none"})
    for category in content["categories"][1:]:
        category["supercategory"] = "insects"
    return "an unused root category 0", "same"


@mutation
def class_added(content: Content, rng: random.Random) -> tuple[str, Expected]:
    content["categories"].append({"id": 3, "name": "cow"})
    content["annotations"][0]["category_id"] = 3
    return "a third class, the student has two", "refused"

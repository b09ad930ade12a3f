"""Images and categories of a COCO file, in one form."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from distill.data.coco_json.file import Entry
from distill.data.coco_json.values import as_id, as_whole_number

__all__ = ["clean_categories", "clean_images", "entries", "unused_roots"]

# No image has a side of so many pixels.
_LONGEST = 2**31


def entries(content: dict[str, Any], key: str) -> list[Entry]:
    """The list of objects under a key.

    Raises:
        ValueError: half a sentence, if there is no such list.
    """
    if key not in content:
        raise ValueError(f"{key!r} is missing, and so it is no COCO file of boxes: add the list")
    found = content[key]
    if not isinstance(found, list):
        raise ValueError(
            f"its {key} are {str(found):.40}, and so it is no COCO file of boxes: write a list"
        )
    for number, entry in enumerate(found, start=1):
        if type(entry) is not dict:
            raise ValueError(
                f"number {number} of its {key} is {str(entry):.40}, and so it is no COCO file of "
                "boxes: write an object"
            )
    return found


def clean_images(images: list[Entry]) -> list[Entry]:
    """Images in one form; they are changed in place.

    Raises:
        ValueError: half a sentence that names the image.
    """
    for number, image in enumerate(images, start=1):
        _give_id(image, "image", number)
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            state = "is missing" if name is None else f"is {name!r}"
            raise ValueError(
                f"'file_name' {state} in image {image['id']!r}: write the name of its file below "
                "the folder of the images"
            )
        image["file_name"] = name.replace("\\", "/")
        for key in ("width", "height"):
            image[key] = _side(image, key)
    _refuse_repeats([image["id"] for image in images], "id", "images")
    return images


def clean_categories(categories: list[Entry]) -> list[Entry]:
    """Categories in the order of their classes; they are changed in place.

    The order is that of numbers, also where these are text; of other text that of the file.

    Raises:
        ValueError: half a sentence that names the category.
    """
    for number, category in enumerate(categories, start=1):
        _give_id(category, "category", number)
        name = category.get("name")
        if name is None or isinstance(name, dict | list):
            raise ValueError(f"'name' is missing in category {category['id']!r}: write it")
        category["name"] = str(name)
    _refuse_repeats([category["id"] for category in categories], "id", "categories")
    _refuse_repeats([category["name"] for category in categories], "name", "categories")
    try:
        return sorted(categories, key=lambda category: as_whole_number(category["id"]))
    except ValueError:
        return categories


def unused_roots(categories: list[Entry], used: Collection[int | str]) -> list[Entry]:
    """Categories that are there only as the parent of others, as Roboflow writes its number 0.

    Args:
        categories: all of them.
        used: the ids of those that annotations have.
    """
    parents = {category.get("supercategory") for category in categories if category["name"]}
    return [
        category
        for category in categories
        if category["id"] not in used
        and category["name"] in parents
        and str(category.get("supercategory")).lower() == "none"
        and category["name"] != category.get("supercategory")
    ]


def _give_id(entry: Entry, what: str, number: int) -> None:
    try:
        entry["id"] = as_id(entry.get("id"))
    except ValueError as error:
        name = f"{what} number {number}, {entry.get('file_name', entry.get('name'))!r}"
        state = f"the id {error} in" if "id" in entry else "'id' is missing in"
        raise ValueError(f"{state} {name}: give each {what} its own") from error


def _side(image: Entry, key: str) -> int:
    try:
        side = as_whole_number(image.get(key))
    except ValueError:
        side = 0
    if 0 < side < _LONGEST:
        return side
    if image.get(key) is None:
        raise ValueError(f"{key!r} is missing in image {image['id']!r}: write it, in pixels")
    raise ValueError(
        f"image {image['id']!r} has the size {image.get('width')} x {image.get('height')}: "
        "both must be whole numbers above 0, of pixels"
    )


def _refuse_repeats(values: list[int | str], key: str, what: str) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[int | str] = set()
    twice = next(x for x in values if x in seen or seen.add(x))
    advice = "give each its own" if key == "id" else "rename one"
    raise ValueError(f"the {key} {twice!r} is there twice in its {what}: {advice}")

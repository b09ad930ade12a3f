"""Annotations of a COCO file, in one form."""

from __future__ import annotations

from typing import Any, NoReturn

from distill.data.coco_json.file import Entry
from distill.data.coco_json.values import NUMBERS, Ids, as_id, as_number

__all__ = ["BoxCleaner"]

_WORDS = {"true": 1, "false": 0, "": 0}


class BoxCleaner:
    """Brings annotations into one form, and counts what was not plain.

    Attributes:
        counts: how many annotations needed what, by the sentence that says so.
        left_out: how many are left out.
    """

    def __init__(self, images: Ids, categories: Ids, *, keep_unlisted: bool = True) -> None:
        """Takes the ids that annotations may have.

        Args:
            images: those of the images.
            categories: those of the categories.
            keep_unlisted: refuse annotations of images that are not listed, else leave them out.
        """
        self.images = images
        self.categories = categories
        self.keep_unlisted = keep_unlisted
        self.counts: dict[str, int] = {}
        self.left_out = 0

    def clean(self, annotations: list[Entry]) -> list[Entry]:
        """Annotations in one form; they are changed in place.

        Raises:
            ValueError: half a sentence that names the annotation.
        """
        images, categories = self.images.exact, self.categories.exact
        kept = []
        for number, x in enumerate(annotations, start=1):
            try:
                # Nearly all are as they should be.
                if images[x["image_id"]] is not x["image_id"]:
                    x["image_id"] = images[x["image_id"]]
                if categories[x["category_id"]] is not x["category_id"]:
                    x["category_id"] = categories[x["category_id"]]
            except (KeyError, TypeError):
                if not self._find_ids(x, number):
                    continue
            self._clean_numbers(x, number)
            kept.append(x)
        self._clean_ids(kept)
        return kept

    def _find_ids(self, x: Entry, number: int) -> bool:
        """Ids that are written in another way; whether the annotation is to be kept."""
        for key, ids in (("image_id", self.images), ("category_id", self.categories)):
            if key not in x:
                _refuse(x, number, f"{key!r} is missing in", "write it")
            found = ids.find(x[key])
            if found is None and key == "image_id" and not self.keep_unlisted:
                self._count("boxes of images that are not listed are left out")
                self.left_out += 1
                return False
            if found is None:
                where = f"the {key} {x[key]!r} of {_name(x, number)} is not listed"
                raise ValueError(f"{where}: remove the box or list it")
            x[key] = found
        return True

    def _clean_numbers(self, x: Entry, number: int) -> None:
        box = x.get("bbox")
        try:
            left, top, width, height = box
            # Whole numbers stay such, which Detectron2 resizes by rounding down. Whatever is
            # infinite or no number makes the sum so.
            plain = NUMBERS.issuperset(map(type, box))
            if not (plain and (left + top + width + height) * 0.0 == 0.0):
                left, top, width, height = x["bbox"] = [as_number(value) for value in box]
            if width < 0 or height < 0:
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            _refuse_box(x, number)
        crowd = x.get("iscrowd")
        if type(crowd) is not int or crowd not in (0, 1):
            x["iscrowd"] = self._flag(x, "iscrowd", number)
        if "ignore" in x and self._flag(x, "ignore", number):
            advice = "set `iscrowd` to 1 for an area of many objects, or remove it"
            _refuse(x, number, "'ignore' is set in", advice)
        area = x.get("area")
        # Of an area that is not finite the difference is not 0.
        if not (type(area) in (float, int) and area >= 0 and area - area == 0):
            x["area"] = self._area(area, width * height)

    def _flag(self, x: Entry, key: str, number: int) -> int:
        value = x.get(key)
        if value is None:
            return 0
        text = str(value).strip().lower()
        try:
            found = _WORDS[text] if text in _WORDS else as_number(value)
        except ValueError:
            found = -1.0
        if found not in (0, 1):
            _refuse(x, number, f"{key!r} is {value!r} in", "write 0 or 1")
        return int(found)

    def _area(self, area: Any, of_box: float) -> float:
        try:
            number = as_number(area)
        except ValueError:
            number = -1.0
        if number >= 0:
            return number
        if area is not None:
            self._count("areas that are no number at least 0 are replaced by those of the boxes")
        return of_box

    def _clean_ids(self, annotations: list[Entry]) -> None:
        """New ids where one is missing or there twice: nothing refers to them."""
        try:
            ids = [as_id(x["id"]) for x in annotations]
        except (KeyError, ValueError):
            ids = []
        if len(set(ids)) < len(annotations):
            self._count("boxes have no ids of their own, and are all numbered anew", 0)
            ids = list(range(1, len(annotations) + 1))
        for x, own in zip(annotations, ids, strict=True):
            x["id"] = own

    def _count(self, sentence: str, by: int = 1) -> None:
        self.counts[sentence] = self.counts.get(sentence, 0) + by


def _name(x: Entry, number: int) -> str:
    return f"box {x['id']!r}" if x.get("id") is not None else f"box number {number}"


def _refuse(x: Entry, number: int, what: str, advice: str) -> NoReturn:
    raise ValueError(f"{what} {_name(x, number)}: {advice}")


def _refuse_box(x: Entry, number: int) -> NoReturn:
    if "bbox" not in x:
        _refuse(x, number, "'bbox' is missing in", "write x, y, width and height")
    raise ValueError(
        f"{_name(x, number)} has the bbox {str(x['bbox']):.80}: it must be x, y, width and height, "
        "finite, the sizes not negative"
    )

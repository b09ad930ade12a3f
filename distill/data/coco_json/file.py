"""What a COCO file holds, in one form."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.utils.logger import log_first_n

__all__ = ["CocoFile", "Entry"]

# An image, annotation or category.
Entry = dict[str, Any]


@dataclass(frozen=True)
class CocoFile:
    """A COCO file's content. It is shared by all who read the file: change copies.

    Attributes:
        path: the file.
        info: the header; {} where there is none.
        images: the images in the file's order, each with an "id" (int or str, all different), a
            "file_name" with forward slashes, whole numbers "width" and "height" above 0, and
            whatever else the file says.
        annotations: the boxes in the file's order, each with an "id" (int or str, all different),
            the "image_id" of one of `images`, the "category_id" of one of `categories`, a "bbox" of
            four finite numbers x, y, width and height in pixels (sizes not negative), "area",
            "iscrowd" 0 or 1, and whatever else the file says.
        categories: the classes in their order, ascending by id, each with an "id" (int or str) and
            a "name", all different. The class of a box is its category's place here.
        rest: the file's other keys.
        has_annotations: whether the file has a list of annotations at all, if an empty one.
        left_out: number of boxes left out, as their images are not listed.
        roots: categories that are no classes but parents of some, and have no boxes.
        notes: sentences on what was made plain.
    """

    path: Path
    info: dict[str, Any]
    images: list[Entry]
    annotations: list[Entry]
    categories: list[Entry]
    rest: dict[str, Any] = field(default_factory=dict)
    has_annotations: bool = True
    left_out: int = 0
    roots: tuple[Entry, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in their order."""
        return tuple(category["name"] for category in self.categories)

    def class_places(self) -> dict[int | str, int]:
        """The class of each category, by its id."""
        return {category["id"]: place for place, category in enumerate(self.categories)}

    def image_places(self) -> dict[int | str, int]:
        """The place of each image, by its id."""
        return {image["id"]: place for place, image in enumerate(self.images)}

    def say_notes(self) -> None:
        """Logs what was made plain; a sentence once in a process."""
        for note in self.notes:
            log_first_n(logging.WARNING, f"{self.path}: {note}", key="message", name=__name__)

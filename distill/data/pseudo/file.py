"""A file of pseudo labels: COCO's JSON with a score and a teacher per box, and a header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.coco_json import read_coco
from distill.data.pseudo.labels import PseudoLabels, class_places
from distill.data.pseudo.reading import parse
from distill.data.pseudo.writing import annotations, write_pseudo_file

__all__ = ["PseudoFile"]


@dataclass(frozen=True)
class PseudoFile:
    """What a file of pseudo labels holds.

    Attributes:
        info: the header. Every file has "image_root", the folder of the images, and "dataset", the
            registered dataset they are of, or None.
        images: id, file_name (below image_root), width and height of every image.
        class_names: the classes; a box' class is a place in it.
        teachers: names of what found the boxes; `labels.teacher` is a place in it.
        labels: the boxes.
        crowds: areas of many objects of a class, which a file of labels may have.
    """

    info: dict[str, Any]
    images: list[dict[str, Any]]
    class_names: tuple[str, ...]
    teachers: tuple[str, ...]
    labels: PseudoLabels
    crowds: PseudoLabels = field(default_factory=PseudoLabels.none)

    def select_images(self, numbers: np.ndarray) -> PseudoFile:
        """Some of the images with their boxes, by their numbers, ascending."""
        places = np.full(len(self.images), -1)
        places[numbers] = np.arange(len(numbers))
        every = np.arange(len(self.class_names))
        return replace(
            self,
            images=[self.images[number] for number in numbers],
            labels=self.labels.renumbered(places, every),
            crowds=self.crowds.renumbered(places, every),
        )

    def in_classes(self, names: Sequence[str]) -> PseudoFile:
        """The boxes in other classes, matched by name; those that lack one are left out."""
        every, places = np.arange(len(self.images)), class_places(self.class_names, names)
        return replace(
            self,
            class_names=tuple(names),
            labels=self.labels.renumbered(every, places),
            crowds=self.crowds.renumbered(every, places),
        )

    def save(self, path: str | Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OSError: if it can't be written.
        """
        labels = self.labels
        columns = (labels.boxes, labels.scores[:, None], labels.classes[:, None])
        teachers = (self.teachers[number] for number in labels.teacher.tolist())
        ids = (self.images[number]["id"] for number in labels.image.tolist())
        boxes = annotations(ids, np.concatenate(columns, axis=1), teachers)
        write_pseudo_file(path, self.info, self.images, self.class_names, boxes)

    @classmethod
    def load(cls, path: str | Path) -> PseudoFile:
        """Reads a file, or a plain COCO file, whose boxes count as true labels of score 1.

        Boxes are in the order of the images.

        Args:
            path: the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: one sentence that names what is wrong with it.
        """
        file = read_coco(path)
        file.say_notes()
        try:
            return cls(*parse(file))
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error

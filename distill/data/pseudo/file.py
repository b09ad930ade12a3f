"""A file of pseudo labels: COCO's JSON with a score and a teacher per box, and a header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.coco_json import read_coco
from distill.data.pseudo.categories import category_entries
from distill.data.pseudo.labels import HUMAN, PseudoLabels, class_places
from distill.data.pseudo.reading import parse
from distill.data.pseudo.writing import annotations, write_pseudo_file

__all__ = ["PseudoFile"]


@dataclass(frozen=True)
class PseudoFile:
    """What a file of pseudo labels holds.

    Attributes:
        info: the header. Every file has "image_root", the folder of the images, and "dataset", the
            registered dataset they are of, or None.
        images: id, file_name (below image_root), width and height of every image, and whatever
            else is known of it.
        class_names: the classes; a box' class is a place in it.
        teachers: names of what found the boxes; `labels.teacher` is a place in it.
        labels: the boxes.
        crowds: areas of many objects of a class, which a file of labels may have.
        categories: of some of the classes, by their "name", what a file says of them.
        annotations: those that boxes were read from, see `PseudoLabels.entry`; masks, keypoints
            and whatever else they have is written with the boxes.
        rest: other keys of the file.
    """

    info: dict[str, Any]
    images: list[dict[str, Any]]
    class_names: tuple[str, ...]
    teachers: tuple[str, ...]
    labels: PseudoLabels
    crowds: PseudoLabels = field(default_factory=PseudoLabels.none)
    categories: Sequence[dict[str, Any]] = ()
    annotations: Sequence[dict[str, Any]] = field(default=(), repr=False)
    rest: dict[str, Any] = field(default_factory=dict)

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

    def boxes_only(self) -> PseudoFile:
        """The same without what annotations have besides boxes, which may be much."""
        parts = (replace(x, entry=None) for x in (self.labels, self.crowds))
        return replace(self, **dict(zip(("labels", "crowds"), parts, strict=True)), annotations=())

    def save(self, path: str | Path) -> None:
        """Writes the file, whole or not at all.

        Boxes that were read from annotations are written as these, under their ids and before
        others.

        Raises:
            OSError: if it can't be written.
            ValueError: one sentence, if it holds what no file can.
        """
        categories = category_entries(self.class_names, self.categories)
        ids = [category["id"] for category in categories]
        kept = list(self._kept(ids))
        numbers = [x["id"] for x in kept if isinstance(x["id"], int)]
        write_pseudo_file(
            path,
            self.info,
            self.images,
            categories,
            chain(self._made(self.labels, ids, 0), self._made(self.crowds, ids, 1)),
            kept=kept,
            first_id=max(numbers, default=0) + 1,
            rest=self.rest,
        )

    def _kept(self, category_ids: Sequence[int | str]) -> Iterator[dict[str, Any]]:
        """The annotations that boxes were read from, in their order."""
        rows = np.concatenate(
            [np.stack([x.entry, x.image, x.classes], axis=1) for x in (self.labels, self.crowds)]
        )
        rows = rows[rows[:, 0] >= 0]
        for entry, image, category in rows[np.argsort(rows[:, 0])].tolist():
            places = {"image_id": self.images[image]["id"], "category_id": category_ids[category]}
            yield {**self.annotations[entry], **places}

    def _made(
        self, labels: PseudoLabels, category_ids: Sequence[int | str], crowd: int
    ) -> Iterator[dict[str, Any]]:
        """The other boxes as annotations."""
        labels = labels.select(labels.entry < 0)
        columns = (labels.boxes, labels.scores[:, None], labels.classes[:, None])
        names = self.teachers or (HUMAN,)
        teachers = (names[number] for number in labels.teacher.tolist())
        ids = (self.images[number]["id"] for number in labels.image.tolist())
        rows = np.concatenate(columns, axis=1)
        return annotations(ids, rows, teachers, category_ids=category_ids, crowd=crowd)

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
            return cls(**parse(file))
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error

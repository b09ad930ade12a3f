"""A file of pseudo labels: COCO's JSON with a score and a teacher per box, and a header."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from distill.data.pseudo.labels import PseudoLabels
from distill.utils.files import atomic_write

__all__ = ["HUMAN", "PseudoFile", "annotation", "annotations", "write_pseudo_file"]

# Stands for the teacher of a box that is a true label.
HUMAN = "labels"
_PIXEL_DIGITS = 2
_SCORE_DIGITS = 5


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
    """

    info: dict[str, Any]
    images: list[dict[str, Any]]
    class_names: tuple[str, ...]
    teachers: tuple[str, ...]
    labels: PseudoLabels

    def save(self, path: str | Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OSError: if it can't be written.
        """
        write_pseudo_file(path, self.info, self.images, self.class_names, self._annotations())

    def _annotations(self) -> Iterator[dict[str, Any]]:
        labels = self.labels
        teacher = np.zeros(len(labels), int) if labels.teacher is None else labels.teacher
        columns = (labels.image, labels.boxes, labels.scores, labels.classes, teacher)
        ids = [image["id"] for image in self.images]
        for image, box, score, category, by in zip(*(x.tolist() for x in columns), strict=True):
            yield annotation(ids[image], category, box, score, self.teachers[by])

    @classmethod
    def load(cls, path: str | Path, *, crowds: bool = False) -> PseudoFile:
        """Reads a file, or a plain COCO file, whose boxes count as true labels of score 1.

        Boxes are in the order of the images.

        Args:
            path: the file.
            crowds: read the crowds and nothing else; they are left out otherwise, as Detectron2
                does in training.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: one sentence that names what is wrong with it.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: correct its path.")
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(
                f"{path} is no JSON, or cut short ({error}): make it again, or copy it again."
            ) from error
        try:
            return _parse(content, crowds)
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{path} is no COCO file of boxes ({reason}).") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def annotation(
    image_id: int, category: int, box: Sequence[float], score: float, teacher: str
) -> dict[str, Any]:
    """A box as :func:`write_pseudo_file` takes it.

    Args:
        image_id: id of its image.
        category: its class, a place in the class names.
        box: corners (x0, y0, x1, y1) in pixels of the image on disk.
        score: in [0, 1].
        teacher: name of what found it.
    """
    x0, y0, x1, y1 = box
    # A hundredth of a pixel: the file is a third of the size.
    corner = [round(value, _PIXEL_DIGITS) for value in (x0, y0, x1 - x0, y1 - y0)]
    return {
        "image_id": image_id,
        "category_id": category + 1,
        "bbox": corner,
        "area": round(corner[2] * corner[3], _PIXEL_DIGITS),
        "iscrowd": 0,
        "score": round(score, _SCORE_DIGITS),
        "teacher": teacher,
    }


def annotations(image_id: int, rows: np.ndarray, teacher: str) -> list[dict[str, Any]]:
    """The boxes of an image as :func:`annotation` makes them, but all at once.

    Args:
        image_id: id of the image.
        rows: (B, 6) x0, y0, x1, y1, score, class.
        teacher: name of what found them.
    """
    sizes = rows[:, 2:4] - rows[:, :2]
    boxes = np.concatenate([rows[:, :2], sizes], axis=1).round(_PIXEL_DIGITS)
    areas = (boxes[:, 2] * boxes[:, 3]).round(_PIXEL_DIGITS)
    columns = (boxes, areas, rows[:, 4].round(_SCORE_DIGITS), rows[:, 5].astype(int) + 1)
    return [
        {
            "image_id": image_id,
            "category_id": category,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "score": score,
            "teacher": teacher,
        }
        for box, area, score, category in zip(*(x.tolist() for x in columns), strict=True)
    ]


def write_pseudo_file(
    path: str | Path,
    info: dict[str, Any],
    images: Iterable[dict[str, Any]],
    class_names: Sequence[str],
    annotations: Iterable[dict[str, Any]],
) -> None:
    """Writes a file of pseudo labels piece by piece, whole or not at all.

    Equal arguments make equal bytes. Ids of boxes count from 1.

    Args:
        path: the file; its folder is made.
        info: the header; plain values.
        images: id, file_name, width and height of each; may be a generator.
        class_names: names of the classes.
        annotations: what :func:`annotation` returns; may be a generator.

    Raises:
        OSError: if it can't be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]
    boxes = (_box_text(i, x) for i, x in enumerate(annotations, start=1))

    def write(stream: IO[bytes]) -> None:
        stream.write(b'{"info": ' + _dump(info) + b',\n"categories": ' + _dump(categories))
        for key, texts in (("images", map(_dump, images)), ("annotations", boxes)):
            stream.write(f',\n"{key}": ['.encode())
            for number, text in enumerate(texts):
                stream.write((b",\n" if number else b"\n") + text)
            stream.write(b"]")
        stream.write(b"}\n")

    atomic_write(path, write)


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@functools.lru_cache(maxsize=16, typed=True)
def _quoted(value: int | str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _box_text(number: int, box: dict[str, Any]) -> bytes:
    """What json makes of an annotation, in half the time: a file may have millions of boxes."""
    x, y, width, height = box["bbox"]
    area, score = box["area"], box["score"]
    if not math.isfinite(x + y + area + score):
        raise ValueError(
            f"Box {number} of image {box['image_id']!r} is not finite, and so not JSON compliant."
        )
    return (
        f'{{"id": {number}, "image_id": {_quoted(box["image_id"])}, '
        f'"category_id": {box["category_id"]}, "bbox": [{x}, {y}, {width}, {height}], '
        f'"area": {area}, "iscrowd": {box["iscrowd"]}, "score": {score}, '
        f'"teacher": {_quoted(box["teacher"])}}}'
    ).encode()


def _parse(content: dict[str, Any], crowds: bool) -> PseudoFile:
    images = [_image(image) for image in content["images"]]
    number = _numbers([image["id"] for image in images], "images")
    categories = content["categories"]
    category = _numbers([x["id"] for x in categories], "categories")
    names = tuple(str(x["name"]) for x in categories)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is there twice in its categories: rename one.")
    found = content["annotations"]
    _numbers([x["id"] for x in found], "annotations")
    found = [x for x in found if bool(x.get("iscrowd", 0)) == crowds]
    teachers = tuple(sorted({x.get("teacher", HUMAN) for x in found}))
    place = {name: i for i, name in enumerate(teachers)}
    rows = [
        (
            _place(number, x, "image_id"),
            *_box(x),
            _score(x),
            _place(category, x, "category_id"),
            place[x.get("teacher", HUMAN)],
        )
        for x in found
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    table = table[np.argsort(table[:, 0], kind="stable")]
    table[:, 3:5] += table[:, 1:3]
    image, classes, teacher = (table[:, column].astype(np.int64) for column in (0, 6, 7))
    labels = PseudoLabels(image, table[:, 1:5], table[:, 5], classes, teacher)
    info = {"image_root": "", "dataset": None, **(content.get("info") or {})}
    return PseudoFile(info, images, names, teachers, labels)


def _image(image: dict[str, Any]) -> dict[str, Any]:
    if not (0 < image["width"] < np.inf and 0 < image["height"] < np.inf):
        raise ValueError(
            f"image {image['id']!r} has the size {image['width']} x {image['height']}: both must "
            "be above 0."
        )
    return {key: image[key] for key in ("id", "file_name", "width", "height")}


def _numbers(ids: list[Any], what: str) -> dict[Any, int]:
    numbers = {x: i for i, x in enumerate(ids)}
    if len(numbers) < len(ids):
        twice = next(x for i, x in enumerate(ids) if numbers[x] != i)
        raise ValueError(f"the id {twice!r} is there twice in its {what}: give each its own.")
    return numbers


def _place(numbers: dict[Any, int], annotation: dict[str, Any], key: str) -> int:
    if annotation[key] not in numbers:
        raise ValueError(
            f"the {key} {annotation[key]!r} of box {annotation['id']!r} is not listed: remove the "
            "box or list it."
        )
    return numbers[annotation[key]]


def _box(annotation: dict[str, Any]) -> tuple[float, ...]:
    box = tuple(float(x) for x in annotation["bbox"])
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise ValueError(
            f"box {annotation['id']!r} has the bbox {annotation['bbox']}: it must be x, y, width "
            "and height, finite, the sizes not negative."
        )
    return box


def _score(annotation: dict[str, Any]) -> float:
    score = float(annotation.get("score", 1.0))
    if not 0 <= score <= 1:
        raise ValueError(
            f"box {annotation['id']!r} has the score {score}: it must be between 0 and 1."
        )
    return score

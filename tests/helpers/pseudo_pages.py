"""A small file of pseudo labels, true labels and images; and what a written page holds."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN, PseudoLabels

# Elements without an end tag.
_VOID = {"img", "input", "meta"}

TEN = (0, 0, 10, 10)
FAR = (20, 20, 30, 30)


def pseudo_file(
    names: list[str],
    *rows: tuple,
    classes: tuple[str, ...] = ("ant", "bee"),
    teachers: tuple[str, ...] = ("T",),
    **info: Any,
) -> PseudoFile:
    """Images of 40 x 40 with the ids 1, 2, ...; rows of image, box, score, class and teacher."""
    rows = tuple(row if len(row) == 5 else (*row, 0) for row in rows)
    image, boxes, scores, category, teacher = zip(*rows, strict=True) if rows else ((),) * 5
    labels = PseudoLabels(
        np.array(image, int),
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
        np.array(category, int),
        np.array(teacher, int),
    )
    images = [
        {"id": i, "file_name": name, "width": 40, "height": 40} for i, name in enumerate(names, 1)
    ]
    return PseudoFile(
        {"image_root": "", "dataset": None, **info}, images, classes, teachers, labels
    )


def true_labels(names: list[str], *rows: tuple, classes: tuple[str, ...] = ("ant", "bee")):
    """Rows of image, box and class."""
    scored = ((image, box, 1.0, category) for image, box, category in rows)
    return pseudo_file(names, *scored, classes=classes, teachers=(HUMAN,))


def write_images(root: Path, *names: str) -> None:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (10 * shade, 90, 200)).save(root / name)


class Page(HTMLParser):
    """The parts of a page: its elements, its texts by element, and the data of its script."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        scripts = [text for tag, text in self.texts if tag == "script"]
        self.data = json.loads(scripts[0])
        self.script = scripts[1]
        self.images = self.data["images"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.append((self._open[-1], data.strip()))

    def all(self, tag: str) -> list[str]:
        return [text for at, text in self.texts if at == tag]

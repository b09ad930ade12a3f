"""What headers say about where boxes come from, put together for several files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN
from distill.data.pseudo.writing import file_header
from distill.utils.files import bytes_digest, json_digest

__all__ = [
    "TeacherBits",
    "digest",
    "one_dataset",
    "teacher_names",
    "united_header",
    "united_teachers",
    "with_header",
]

# Of a header of ours, what is of all boxes of its file.
_COUNTED = ("boxes_above_0.5", "skipped", "merge", "complete")
_JOINT = "+"
_MAX_TEACHERS = 62


class TeacherBits:
    """Sets of teachers as the bits of int64, whose names are sorted and joined by "+"."""

    def __init__(self, files: Sequence[PseudoFile]) -> None:
        """Numbers the teachers of files.

        Args:
            files: the files.

        Raises:
            ValueError: one sentence, if there are more teachers than bits.
        """
        self.names = sorted({name for file in files for name in teacher_names(file)})
        if len(self.names) > _MAX_TEACHERS:
            raise ValueError(
                f"The files have boxes of {len(self.names)} teachers: merge up to {_MAX_TEACHERS}."
            )

    def of(self, file: PseudoFile) -> np.ndarray:
        """The set of teachers (B,) of each of a file's boxes."""
        bits = [
            sum(1 << self.names.index(name) for name in joined.split(_JOINT))
            for joined in file.teachers
        ]
        return np.array(bits, dtype=np.int64)[file.labels.teacher]

    def decode(self, bits: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        """The names of sets (B,), sorted and each once, and the place (B,) of each set in them."""
        sets, place = np.unique(bits, return_inverse=True)
        joined = [
            _JOINT.join(name for i, name in enumerate(self.names) if value >> i & 1)
            for value in sets.tolist()
        ]
        order = np.argsort(np.array(joined, dtype=object), kind="stable")
        return tuple(joined[i] for i in order), np.argsort(order)[place.reshape(-1)]


def teacher_names(file: PseudoFile) -> tuple[str, ...]:
    """The teachers of a file, one by one, those without any box too."""
    found = {name for joined in file.teachers for name in joined.split(_JOINT)}
    return tuple(sorted(found | set(file.info.get("teachers") or ()))) or (HUMAN,)


def united_header(
    description: str,
    files: Sequence[PseudoFile],
    names: Sequence[str],
    *,
    place: PseudoFile,
    dataset: str | None,
    **rest: Any,
) -> dict[str, Any]:
    """The header of a file that is made of several; the number of its boxes is still 0.

    Args:
        description: what the file holds.
        files: those that it is made of.
        names: what to call them in messages.
        place: the one of them whose images and image_root count.
        dataset: the registered dataset that the images are of, or None.
        rest: what else is to be known; plain values.

    Raises:
        ValueError: one sentence, if different weights go by one name.
    """
    # An image that could not be read is missing in all of them.
    skipped = max((file.info.get("counts") or {}).get("skipped", 0) for file in files)
    return file_header(
        description,
        dataset=dataset,
        image_root=place.info["image_root"],
        teachers=united_teachers(files, names),
        **rest,
        counts={"images": len(place.images), "boxes": 0, "skipped": skipped},
    )


def with_header(file: PseudoFile, header: dict[str, Any]) -> dict[str, Any]:
    """A header of ours over that of the file that something is made of.

    Args:
        file: what it is made of; all that only its own header has stays, and so does the
            description of a file that is not of this library.
        header: ours.
    """
    own = "format" in file.info and "library" in file.info
    kept = {k: v for k, v in file.info.items() if k not in header and not (own and k in _COUNTED)}
    if not own and file.info.get("description"):
        kept["description"] = file.info["description"]
    return {**header, **kept}


def united_teachers(files: Sequence[PseudoFile], names: Sequence[str]) -> dict[str, Any]:
    """The header's entry "teachers" for several files.

    Args:
        files: the files.
        names: what to call them in messages.

    Raises:
        ValueError: one sentence, if different weights go by one name.
    """
    united: dict[str, tuple[Any, str]] = {}
    for file, source in zip(files, names, strict=True):
        for name, entry in (file.info.get("teachers") or {}).items():
            known, first = united.setdefault(name, (entry, source))
            if known.get("weights_sha256") != entry.get("weights_sha256"):
                raise ValueError(
                    f"{first} and {source} call different weights {name}: give one of the two "
                    "teachers another name."
                )
    return {name: united[name][0] for name in sorted(united)}


def one_dataset(files: Sequence[PseudoFile]) -> str | None:
    """The registered dataset that all files are of which name one; None for several."""
    named = {file.info["dataset"] for file in files} - {None}
    return named.pop() if len(named) == 1 else None


def digest(file: PseudoFile) -> str:
    """A hash of all that a file holds."""
    labels = file.labels
    columns = (labels.image, labels.boxes, labels.scores, labels.classes, labels.teacher)
    texts = (file.info, file.images, file.class_names, file.teachers)
    return json_digest([*texts, *(bytes_digest(column.tobytes()) for column in columns)])

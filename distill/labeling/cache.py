"""What a teacher found in a dataset, kept on disk for the next run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels

__all__ = ["load_pseudo_labels", "save_pseudo_labels"]

Record = dict[str, Any]
_TEACHER = "teacher"


def save_pseudo_labels(
    path: Path,
    labels: PseudoLabels,
    records: Sequence[Record],
    class_names: Sequence[str],
    info: dict[str, Any],
) -> None:
    """Writes boxes as a file of pseudo labels, whole or not at all.

    Args:
        path: the file.
        labels: the boxes.
        records: the dataset.
        class_names: the student's classes.
        info: the header; plain values.

    Raises:
        OSError: if the file can't be written.
    """
    images = [
        {
            "id": record.get("image_id", number),
            "file_name": Path(str(record["file_name"])).name,
            "width": record.get("width"),
            "height": record.get("height"),
        }
        for number, record in enumerate(records)
    ]
    PseudoFile(info, images, tuple(class_names), (_TEACHER,), labels).save(path)


def load_pseudo_labels(path: Path, records: Sequence[Record], key: str) -> PseudoLabels:
    """Reads what :func:`save_pseudo_labels` wrote.

    Args:
        path: the file.
        records: the dataset.
        key: what the header's `key` must be.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or belongs to something else.
    """
    file = PseudoFile.load(path)
    if file.info.get("key") != key:
        raise ValueError(f"{path} belongs to something else (its header has another key)")
    ids = [record.get("image_id", number) for number, record in enumerate(records)]
    if [image["id"] for image in file.images] != ids:
        raise ValueError(f"{path} has other images")
    return file.labels

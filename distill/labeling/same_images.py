"""Which images of two files of labels are the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile

__all__ = ["align_images", "match_images"]


def match_images(first: PseudoFile, second: PseudoFile) -> np.ndarray:
    """Finds the images of one file in another by their ids.

    Args:
        first: N images.
        second: the file to look in.

    Returns:
        (N,) int64 number of each image in the second file; -1 for those that it lacks.

    Raises:
        ValueError: if an id stands for files of two names.
    """
    numbers = {image["id"]: number for number, image in enumerate(second.images)}
    found = np.array([numbers.get(image["id"], -1) for image in first.images], dtype=np.int64)
    for image, number in zip(first.images, found.tolist(), strict=True):
        own, other = image["file_name"], second.images[number]["file_name"] if number >= 0 else ""
        # The folders may differ, since so may the roots.
        if other and Path(own).name != Path(other).name:
            raise ValueError(
                f"The image {image['id']!r} is {own} in one file of labels and {other} in the "
                "other: give two files of the same dataset."
            )
    return found


def align_images(first: PseudoFile, second: PseudoFile, names: tuple[str, str]) -> np.ndarray:
    """Finds the images of one file in another and verifies that they are the same.

    Args:
        first: N images.
        second: the file to look in.
        names: what to call the files in messages.

    Returns:
        (N,) number of each image in the second file; -1 for those that it lacks.

    Raises:
        ValueError: one sentence, if an id stands for another image there.
    """
    pair = f"{names[0]} and {names[1]} are not of the same images"
    try:
        found = match_images(first, second)
    except ValueError as error:
        raise ValueError(f"{pair}: {error}") from error
    dataset = first.info["dataset"]
    # A registered dataset may lie elsewhere on another machine.
    moved = dataset is not None and dataset == second.info["dataset"]
    for image, number in zip(first.images, found.tolist(), strict=True):
        if number < 0:
            continue
        other = second.images[number]
        if _size(image) != _size(other):
            raise ValueError(
                f"{pair}: image {image['id']!r} has {_size(image)} pixels in one and "
                f"{_size(other)} in the other; make both from the same images."
            )
        own_path, other_path = _path(first, image), _path(second, other)
        if own_path and other_path and own_path != other_path and not moved:
            raise ValueError(
                f"{pair}: image {image['id']!r} is {own_path} in one and {other_path} in the "
                "other; if these are copies, make image_root the same in both headers."
            )
    return found


def _size(image: dict[str, Any]) -> str:
    return f"{image['width']}x{image['height']}"


def _path(file: PseudoFile, image: dict[str, Any]) -> str:
    """Path of an image, "" where the folder is not known."""
    root = file.info["image_root"]
    return os.path.normpath(os.path.join(root, image["file_name"])) if root else ""

"""Which images of two files of labels are the same."""

from __future__ import annotations

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.labeling.same_files import (
    ListedImage,
    listed,
    pair_by_content,
    pair_by_name,
    same_content,
)

__all__ = ["align_images", "match_images"]


def match_images(first: PseudoFile, second: PseudoFile) -> np.ndarray:
    """Finds the images of one file in another: those that are the same file.

    Names tell, and folders and ids among several of one name; so images of a folder, which are
    numbered, and of a dataset, which has ids of its own, are found in each other. Where the two
    number their images differently, what has no partner by its name is compared by content.

    Args:
        first: N images.
        second: the file to look in.

    Returns:
        (N,) int64 number of each image in the second file; -1 for those that it lacks.

    Raises:
        ValueError: one sentence, if an id stands for files of two names, or several images fit.
    """
    own, others = listed(first), listed(second)
    pairs = pair_by_name(own, others)
    left = [i for i in range(len(own)) if i not in pairs]
    taken = set(pairs.values())
    free = [j for j in range(len(others)) if j not in taken]
    one_numbering = all(own[i].id == others[j].id for i, j in pairs.items())
    if left and free and not (pairs and one_numbering):
        by_content = pair_by_content(own, others, left, free)
        pairs |= by_content
        one_numbering = one_numbering and not by_content
    if one_numbering:
        _refuse_renamed([own[i] for i in left], [others[j] for j in free])
    return np.array([pairs.get(i, -1) for i in range(len(own))], dtype=np.int64)


def _refuse_renamed(own: list[ListedImage], others: list[ListedImage]) -> None:
    """Refuses images of one numbering that have the same id and not the same name."""
    by_id = {image.id: image for image in others}
    for image in own:
        if image.id in by_id:
            raise ValueError(
                f"The image {image.id!r} is {image.name} in one file of labels and "
                f"{by_id[image.id].name} in the other: give two files of the same dataset."
            )


def align_images(first: PseudoFile, second: PseudoFile, names: tuple[str, str]) -> np.ndarray:
    """Finds the images of one file in another and verifies that they are the same.

    Args:
        first: N images.
        second: the file to look in.
        names: what to call the files in messages.

    Returns:
        (N,) number of each image in the second file; -1 for those that it lacks.

    Raises:
        ValueError: one sentence, if an id stands for another image there, or several images fit.
    """
    pair = f"{names[0]} and {names[1]} are not of the same images"
    try:
        found = match_images(first, second)
    except ValueError as error:
        raise ValueError(f"{pair}: {error}") from error
    dataset = first.info["dataset"]
    # A registered dataset may lie elsewhere on another machine.
    moved = dataset is not None and dataset == second.info["dataset"]
    own, others = listed(first), listed(second)
    for image, number in zip(own, found.tolist(), strict=True):
        if number < 0:
            continue
        other = others[number]
        if image.size != other.size:
            raise ValueError(
                f"{pair}: image {image.id!r} has {_text(image)} pixels in one and "
                f"{_text(other)} in the other; make both from the same images."
            )
        known = image.path and other.path and image.path != other.path
        if known and not moved and not same_content(image, other):
            raise ValueError(
                f"{pair}: image {image.id!r} is {image.path} in one and {other.path} in the "
                "other; if these are copies, make image_root the same in both headers."
            )
    return found


def _text(image: ListedImage) -> str:
    return f"{image.size[0]}x{image.size[1]}"

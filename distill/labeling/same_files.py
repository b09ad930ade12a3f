"""Which images of two lists are the same file: by name, and where names do not tell, by content."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distill.data.pseudo.file import PseudoFile
from distill.utils.files import file_digest

__all__ = ["ListedImage", "listed", "pair_by_content", "pair_by_name", "same_content"]


@dataclass(frozen=True)
class ListedImage:
    """An image of a file of labels.

    Attributes:
        id: its id there.
        name: its file_name there.
        size: width and height; None where they are not known.
        path: its file, "" where the folder is not known.
    """

    id: Any
    name: str
    size: tuple[int | None, int | None]
    path: str

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Its folders and the name of its file, from the last on."""
        return tuple(reversed((self.path or self.name).replace("\\", "/").split("/")))

    @cached_property
    def bytes(self) -> int:
        """Size of its file; -1 where there is none."""
        try:
            return os.path.getsize(self.path) if self.path else -1
        except OSError:
            return -1


def listed(file: PseudoFile) -> list[ListedImage]:
    """The images of a file of labels."""
    root = file.info.get("image_root")
    return [
        ListedImage(
            image["id"],
            image["file_name"],
            (image.get("width"), image.get("height")),
            os.path.normpath(os.path.join(root, image["file_name"])) if root else "",
        )
        for image in file.images
    ]


def pair_by_name(first: Sequence[ListedImage], second: Sequence[ListedImage]) -> dict[int, int]:
    """Pairs images whose files have the same name.

    Of several, the same path counts most, then the folders that the paths end with, then the ids,
    the sizes and the contents. An image of the same name but another id is another one if size or
    content differ.

    Returns:
        The number in `second` of images of `first`.

    Raises:
        ValueError: one sentence, if several images fit equally well.
    """
    names = [_by(images, lambda image: image.parts[0]) for images in (first, second)]
    result = {}
    for name, own in names[0].items():
        others = names[1].get(name, [])
        chosen = {i: _best(first[i], others, second) for i in own}
        # One of several may have its partner taken by one that fits better.
        back = {j: _best(second[j], own, first) for j in others}
        for i, j in chosen.items():
            if j is not None and back[j] == i and _may_be_same(first[i], second[j]):
                result[i] = j
    return result


def pair_by_content(
    first: Sequence[ListedImage],
    second: Sequence[ListedImage],
    numbers: Iterable[int],
    others: Iterable[int],
) -> dict[int, int]:
    """Pairs images whose files have the same bytes.

    Args:
        first: images.
        second: other images.
        numbers: those of `first` to pair.
        others: those of `second` to pair them with.

    Returns:
        The number in `second` of images of `first`.

    Raises:
        ValueError: one sentence, if one content is there under several names.
    """
    sizes = {second[j].bytes for j in others} - {-1}
    own = _by_digest(first, (i for i in numbers if first[i].bytes in sizes))
    sizes = {first[i].bytes for group in own.values() for i in group}
    theirs = _by_digest(second, (j for j in others if second[j].bytes in sizes))
    result = {}
    for digest, group in own.items():
        partners = theirs.get(digest, [])
        if partners and (len(group) > 1 or len(partners) > 1):
            raise ValueError(
                f"The images {_names(first, group)} of one file of labels and "
                f"{_names(second, partners)} of the other have the same content, so that it is "
                "not known which is which: leave each image in once, or give them the same names."
            )
        if partners:
            result[group[0]] = partners[0]
    return result


def same_content(first: ListedImage, second: ListedImage) -> bool | None:
    """Whether two files are equal, byte by byte; None where one of them is not there."""
    if first.path and first.path == second.path:
        return True
    if -1 in (first.bytes, second.bytes):
        return None
    if first.bytes != second.bytes:
        return False
    return os.path.samefile(first.path, second.path) or filecmp.cmp(
        first.path, second.path, shallow=False
    )


def _may_be_same(first: ListedImage, second: ListedImage) -> bool:
    """Of images of one name."""
    if first.id == second.id:
        return True
    return _equal_size(first, second) and same_content(first, second) is not False


def _equal_size(first: ListedImage, second: ListedImage) -> bool:
    return first.size == second.size or None in (*first.size, *second.size)


def _best(image: ListedImage, numbers: list[int], images: Sequence[ListedImage]) -> int | None:
    """The one of some images of its name that an image is most likely to be; None for none."""
    if len(numbers) > 1:
        depth = {i: len(os.path.commonprefix([image.parts, images[i].parts])) for i in numbers}
        numbers = [i for i in numbers if depth[i] == max(depth.values())]
    for fits in (
        lambda other: other.id == image.id,
        lambda other: _equal_size(image, other),
        lambda other: same_content(image, other),
    ):
        if len(numbers) > 1:
            numbers = [i for i in numbers if fits(images[i])] or numbers
    if len(numbers) > 1:
        raise ValueError(
            f"The image {image.name} of one file of labels may be {_names(images, numbers)} of the "
            "other: give both files the folder of their images (FILE.json@FOLDER), or names that "
            "tell them apart."
        )
    return numbers[0] if numbers else None


def _names(images: Sequence[ListedImage], numbers: Sequence[int]) -> str:
    return " or ".join(images[i].name for i in numbers[:2])


def _by(images: Sequence[ListedImage], key: Callable[[ListedImage], Any]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        groups[key(image)].append(number)
    return groups


def _by_digest(images: Sequence[ListedImage], numbers: Iterable[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for number in numbers:
        groups[file_digest(images[number].path)].append(number)
    return groups

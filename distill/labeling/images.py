"""The images that a teacher labels: of a folder or a dataset, and how they are read."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image
from torch.utils.data import Dataset

from distill.data.image_files.reading import read_image, reason_of
from distill.labeling.sources import common_root, dataset_records, listed_images
from distill.utils.files import bytes_digest

__all__ = ["ImageListing", "MappedImages", "printable", "refuse_images_in"]


@dataclass(frozen=True)
class ImageListing(Sequence):
    """File names and ids of images, packed: a hundred thousand cost a few megabytes.

    Attributes:
        root: absolute path of the folder that the file names start from.
        dataset: the registered dataset they are of, or None.
        packed: one JSON text after the other.
        ends: (N,) int64 place in `packed` where that of each image ends.
    """

    root: str
    dataset: str | None
    packed: bytes
    ends: np.ndarray

    @classmethod
    def pack(
        cls, root: str, items: Iterable[tuple[str, Any]], dataset: str | None = None
    ) -> ImageListing:
        """Packs pairs of a file name below the root and an id."""
        packed, ends = bytearray(), []
        for name, number in items:
            packed += json.dumps([name, number]).encode()
            ends.append(len(packed))
        return cls(root, dataset, bytes(packed), np.array(ends, np.int64))

    @classmethod
    def from_folder(cls, folder: str | Path) -> ImageListing:
        """All files below a folder that have an image's suffix, by path; ids count from 1.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if it holds no image.
        """
        root = os.path.abspath(folder)
        if not os.path.isdir(root):
            raise FileNotFoundError(f"--images {folder} is no folder: correct its path.")
        names = sorted(filter(_has_image_suffix, _files_below(root)))
        if not names:
            raise ValueError(
                f"--images {folder} holds no image (a file named .jpg, .png or like another format "
                "that Pillow reads), nor does any folder in it: correct its path."
            )
        return cls.pack(root, ((name, number) for number, name in enumerate(names, start=1)))

    @classmethod
    def from_dataset(cls, name: str, *, key: str = "--dataset") -> ImageListing:
        """The images of a registered dataset, in its order and with its ids.

        Args:
            name: the dataset.
            key: the config key or option that names it, for messages.

        Raises:
            FileNotFoundError: if a file or folder of the dataset is missing.
            ValueError: if it is unknown, holds no image, or two of its images share an id.
        """
        records = dataset_records(name, key)
        root = common_root(records, MetadataCatalog.get(name).get("image_root"))
        images = listed_images(records, root)
        if len({image_id for image_id, _ in images}) < len(images):
            raise ValueError(f"{key} has {name}, whose images share an image_id: correct it.")
        return cls.pack(root, ((file, _plain(image_id)) for image_id, file in images), name)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> tuple[str, Any]:
        """File name below the root, and id."""
        start = int(self.ends[number - 1]) if number else 0
        name, image_id = json.loads(self.packed[start : int(self.ends[number])])
        return name, image_id

    def digest(self) -> str:
        """SHA-256 of the names and ids."""
        return bytes_digest(self.packed)


class MappedImages(Dataset):
    """The images of a listing as a model takes them; those that can't be read have a "reason"."""

    def __init__(self, listing: ImageListing, mapper: DatasetMapper) -> None:
        """Takes format and resizing from a mapper.

        Args:
            listing: the images.
            mapper: the teacher's own, for tests.
        """
        self.listing = listing
        self.format = mapper.image_format
        self.augmentations = mapper.augmentations

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, number: int) -> dict[str, Any]:
        name, image_id = self.listing[number]
        path = os.path.join(self.listing.root, name)
        result = {"file_name": path, "image_id": image_id}
        try:
            # A name that no JSON file can hold.
            name.encode()
            image = read_image(path, self.format)
            result["height"], result["width"] = image.shape[:2]
            inputs = T.AugInput(image)
            self.augmentations(inputs)
        except Exception as error:  # whatever is wrong with a file must not stop the others
            return {**result, "reason": reason_of(error, path)}
        chw = np.ascontiguousarray(inputs.image.transpose(2, 0, 1))
        return {**result, "image": torch.as_tensor(chw)}


def printable(name: str) -> str:
    """A file's name with escapes in place of what is no valid UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def refuse_images_in(output: Path) -> None:
    """Keeps what a command writes apart from images.

    Raises:
        ValueError: one sentence, if the folder holds one.
    """
    names = (path.name for path in output.iterdir()) if output.is_dir() else ()
    if image := next(filter(_has_image_suffix, names), None):
        raise ValueError(f"--output {output} holds images, {image} for one: give another folder.")


def _has_image_suffix(name: str) -> bool:
    return name.lower().endswith(_suffixes())


@functools.cache
def _suffixes() -> tuple[str, ...]:
    known = Image.registered_extensions()
    return tuple(sorted(suffix for suffix, format in known.items() if format in Image.OPEN))


def _files_below(root: str) -> Iterator[str]:
    links = []
    for folder, folders, names in os.walk(root):
        below = Path(folder).relative_to(root)
        yield from ((below / name).as_posix() for name in names)
        links += [path for name in folders if os.path.islink(path := os.path.join(folder, name))]
    if links:
        # They may lead in circles, or to the same images twice.
        logging.getLogger(__name__).warning(
            "%d links to folders below %s are not followed, %s for one: label what they lead to by "
            "itself.",
            *(len(links), root, links[0]),
        )


def _plain(image_id: Any) -> int | str:
    return image_id if isinstance(image_id, str) else int(image_id)

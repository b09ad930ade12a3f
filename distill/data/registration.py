"""JSON files as datasets: a path in a config is enough."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Protocol

from detectron2.data import DatasetCatalog, MetadataCatalog

from distill.data.coco_json import CocoFile, read_coco
from distill.data.coco_json.file import Entry
from distill.data.coco_json.folders import ImageFolder
from distill.data.coco_json.records import describe, load_coco_records
from distill.utils.outputs import name_for_file

__all__ = ["file_stem", "image_root", "is_json_dataset", "json_path", "register_json_dataset"]

_MARK = ".json@"
# The images, of the first, of which one has to be in a folder that nobody named.
_SAMPLE = 20


class _ImageList(Protocol):
    """A file of images, in whatever form."""

    info: dict
    images: list[Entry]


def is_json_dataset(name: str) -> bool:
    """Whether a dataset's name is FILE.json, or FILE.json@FOLDER with the folder of its images."""
    return name.endswith(".json") or _MARK in name


def json_path(name: str) -> Path:
    """The file of a name FILE.json or FILE.json@FOLDER."""
    return Path(_split(name)[0])


def file_stem(name: str) -> str:
    """A dataset's name as part of a file's name; of a path its last part, without the suffix."""
    return name_for_file(json_path(name).stem if is_json_dataset(name) else name)


def register_json_dataset(name: str) -> CocoFile:
    """Registers a COCO file under the name that stands for it in a config.

    A name that is registered already is registered anew, as the file may have changed.

    Args:
        name: FILE.json, or FILE.json@FOLDER.

    Returns:
        What the file holds.

    Raises:
        FileNotFoundError: one sentence, if the file or the folder of its images is missing.
        ValueError: one sentence, if the file is damaged.
    """
    path, _ = _split(name)
    file = read_coco(path)
    root = image_root(name, file)
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)
    read = functools.partial(load_coco_records, path, str(root), name, keep_unlisted=True)
    DatasetCatalog.register(name, read)
    MetadataCatalog.get(name).set(json_file=path, image_root=str(root), evaluator_type="coco")
    describe(name, file)
    return file


def image_root(name: str, file: _ImageList) -> Path:
    """Where a file's images are.

    Args:
        name: FILE.json, or FILE.json@FOLDER.
        file: what is in it.

    Returns:
        FOLDER; else the folder of the header's dataset, if that is registered; else the header's
        folder, which may be relative to the file's; else the file's own folder, or the folder
        "images" in it, if the images are there.

    Raises:
        FileNotFoundError: one sentence, if there is no such folder.
    """
    path, folder = _split(name)
    places = [folder] if folder else [_folder_of_dataset(file), _folder_of_header(path, file)]
    for place in places:
        if place and os.path.isdir(place):
            return Path(place)
    beside = [] if folder else [Path(path).parent, Path(path).parent / "images"]
    for place in beside:
        if _holds_images(place, file):
            return place
    tried = " nor ".join(place for place in places if place)
    raise FileNotFoundError(
        f"The images of {path} are not in {tried or 'its folder, nor in the folder images there'}: "
        f"write {path}@FOLDER with the folder that holds "
        f"{file.images[0]['file_name'] if file.images else 'them'}"
    )


def _folder_of_dataset(file: _ImageList) -> str:
    dataset = file.info.get("dataset")
    if not isinstance(dataset, str) or dataset not in DatasetCatalog.list():
        return ""
    return MetadataCatalog.get(dataset).get("image_root", "") or ""


def _folder_of_header(path: str, file: _ImageList) -> str:
    root = file.info.get("image_root")
    # An absolute path stays as it is.
    return str(Path(path).parent / root) if root and isinstance(root, str) else ""


def _holds_images(place: Path, file: _ImageList) -> bool:
    folder = ImageFolder(place)
    return any(folder.holds(folder.find(image["file_name"])) for image in file.images[:_SAMPLE])


def _split(name: str) -> tuple[str, str]:
    if name.endswith(".json"):
        return name, ""
    path, _, folder = name.rpartition(_MARK)
    return f"{path}.json", folder

"""JSON files as datasets: a path in a config is enough."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from distill.data.pseudo.file import PseudoFile
from distill.utils.outputs import name_for_file

__all__ = ["file_stem", "image_root", "is_json_dataset", "json_path", "register_json_dataset"]

_MARK = ".json@"


def is_json_dataset(name: str) -> bool:
    """Whether a dataset's name is FILE.json, or FILE.json@FOLDER with the folder of its images."""
    return name.endswith(".json") or _MARK in name


def json_path(name: str) -> Path:
    """The file of a name FILE.json or FILE.json@FOLDER."""
    return Path(_split(name)[0])


def file_stem(name: str) -> str:
    """A dataset's name as part of a file's name; of a path its last part, without the suffix."""
    return name_for_file(json_path(name).stem if is_json_dataset(name) else name)


def register_json_dataset(name: str) -> PseudoFile:
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
    file = PseudoFile.load(path)
    root = image_root(name, file)
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)
    read = functools.partial(load_coco_json, path, str(root), name)
    DatasetCatalog.register(name, read)
    metadata: dict[str, Any] = {
        "thing_classes": list(file.class_names),
        "json_file": path,
        "image_root": str(root),
        "evaluator_type": "coco",
    }
    MetadataCatalog.get(name).set(**metadata)
    return file


def image_root(name: str, file: PseudoFile) -> Path:
    """Where a file's images are.

    Args:
        name: FILE.json, or FILE.json@FOLDER.
        file: what is in it.

    Returns:
        FOLDER; else the folder of the header's dataset, if that is registered; else the header's
        folder, which may be relative to the file's.

    Raises:
        FileNotFoundError: one sentence, if there is no such folder.
    """
    path, folder = _split(name)
    places = [folder] if folder else [_folder_of_dataset(file), _folder_of_header(path, file)]
    for place in places:
        if place and os.path.isdir(place):
            return Path(place)
    tried = " nor ".join(place for place in places if place) or "the folder that its header lacks"
    raise FileNotFoundError(
        f"The images of {path} are not in {tried}: write {path}@FOLDER with the folder that holds "
        f"{file.images[0]['file_name'] if file.images else 'them'}"
    )


def _folder_of_dataset(file: PseudoFile) -> str:
    dataset = file.info.get("dataset")
    if not dataset or dataset not in DatasetCatalog.list():
        return ""
    return MetadataCatalog.get(dataset).get("image_root", "") or ""


def _folder_of_header(path: str, file: PseudoFile) -> str:
    # An absolute path stays as it is.
    return str(Path(path).parent / file.info["image_root"]) if file.info["image_root"] else ""


def _split(name: str) -> tuple[str, str]:
    if name.endswith(".json"):
        return name, ""
    path, _, folder = name.rpartition(_MARK)
    return f"{path}.json", folder

"""Labels by the name of a registered dataset, or from a JSON file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from distill.data import check_datasets
from distill.data.coco_json import read_coco
from distill.data.mapper import Record
from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN
from distill.data.pseudo.reading import parse
from distill.data.registration import image_root, is_json_dataset, json_path
from distill.labeling.record_labels import (
    record_annotations,
    record_categories,
    record_images,
    record_labels,
)

__all__ = [
    "common_root",
    "dataset_labels",
    "dataset_records",
    "files_of",
    "listed_images",
    "load_labels",
    "load_pseudo",
    "true_labels",
]


def load_labels(source: str, *, option: str = "--labels") -> PseudoFile:
    """Reads the boxes of a registered dataset, or of a file.

    Args:
        source: FILE.json of pseudo labels or plain COCO, or FILE.json@FOLDER with the folder of
            its images; else a dataset's name.
        option: where the name comes from, for the messages.

    Returns:
        The images and their boxes; of a dataset as :func:`dataset_labels` has them.

    Raises:
        FileNotFoundError: if the file, or one of the dataset's, does not exist.
        ValueError: one sentence that names what is wrong with it.
    """
    if is_json_dataset(source):
        file = PseudoFile.load(json_path(source))
        return replace(file, info={**file.info, "image_root": _root_of_json(source, file)})
    records = dataset_records(source, option)
    try:
        file = dataset_labels(source, records)
    except KeyError as error:
        raise ValueError(f"{option} has {source}, whose records lack {error}: add it.") from error
    except ValueError as error:
        raise ValueError(f"{option} has {source}, where {error}.") from error
    for key in ("width", "height"):
        if any(image[key] is None for image in file.images):
            raise ValueError(f"{option} has {source}, whose records lack '{key}': add it.")
    return file


def load_pseudo(path: str | Path) -> PseudoFile:
    """Reads a file of pseudo labels, with the folder of its images relative to it.

    Args:
        path: the file, of any ending; with .json also FILE.json@FOLDER.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_labels`.
    """
    if is_json_dataset(str(path)):
        return load_labels(str(path), option="--pseudo")
    return PseudoFile.load(path)


def dataset_records(name: str, option: str) -> Sequence[Record]:
    """The images of a registered dataset in Detectron2's format, at least one.

    Args:
        name: the dataset.
        option: the option or key that names it, for messages.

    Raises:
        FileNotFoundError: if a file or folder of the dataset is missing.
        ValueError: one sentence, if it is unknown or holds no image.
    """
    check_datasets((name,), key=option)
    records = DatasetCatalog.get(name)
    if not len(records):
        raise ValueError(f"{option} has {name}, which holds no image: check its files.")
    return records


def files_of(source: str) -> list[Path]:
    """The files that :func:`load_labels` may read of a file or a registered dataset."""
    if is_json_dataset(source):
        return [json_path(source)]
    if source not in DatasetCatalog.list():
        return [Path(source)]
    metadata = MetadataCatalog.get(source)
    names = (metadata.get(key) for key in ("json_file", "labels_json"))
    return [Path(name) for name in names if name]


def listed_images(records: Sequence[Record], root: str) -> list[tuple[Any, str]]:
    """Of each image its id, by default its number from 1 on, and its file's name below a folder."""
    return [
        (x.get("image_id", number), Path(os.path.relpath(x["file_name"], root)).as_posix())
        for number, x in enumerate(records, start=1)
    ]


def dataset_labels(name: str, records: Sequence[Record]) -> PseudoFile:
    """The labels of a registered dataset, by the teacher ``HUMAN``, with score 1.

    They are its own, or, where its metadata has `labels_json`, the truth of images that count as
    unlabeled, of that file. File names are below the metadata's image_root, or the folder that all
    images share; a size that a record lacks is None.

    Args:
        name: the dataset.
        records: its images, in Detectron2's format; at least one.

    Raises:
        KeyError: if an annotation lacks something.
        ValueError: half a sentence, if one is no upright box or its class has no name.
        FileNotFoundError: if the file of the labels is missing.
    """
    # Detectron2 completes the metadata when it reads the records of a COCO file.
    metadata = MetadataCatalog.get(name)
    root = common_root(records, metadata.get("image_root"))
    info = {"dataset": name, "image_root": root}
    if metadata.get("labels_json"):
        known = PseudoFile.load(metadata.labels_json)
        return replace(known, info={**known.info, **info})
    listed = listed_images(records, root)
    if (known := _file_of(metadata, listed)) is not None:
        return replace(known, info={**known.info, **info})
    annotations = record_annotations(records, listed)
    labels, crowds = (record_labels(records, annotations, crowds=x) for x in (False, True))
    names = tuple(metadata.get("thing_classes") or ())
    highest = max(labels.classes.max(initial=-1), crowds.classes.max(initial=-1))
    if highest >= len(names):
        raise ValueError(
            f"there is a class {highest} without a name: complete thing_classes in its metadata"
        )
    return PseudoFile(
        info,
        record_images(records, listed),
        names,
        (HUMAN,),
        labels,
        crowds,
        categories=record_categories(metadata),
        annotations=annotations,
    )


def _file_of(metadata: Metadata, listed: Sequence[tuple[Any, str]]) -> PseudoFile | None:
    """The COCO file of a registered dataset, which says more than records; None if it is another.

    Args:
        metadata: the dataset's.
        listed: id and file name of its images.
    """
    if metadata.get("evaluator_type") != "coco" or not os.path.isfile(
        metadata.get("json_file") or ""
    ):
        return None
    file = read_coco(metadata.json_file, keep_unlisted=False)
    places = file.image_places()
    alike = list(file.class_names) == list(metadata.get("thing_classes") or ())
    if not (alike and file.has_annotations and all(image_id in places for image_id, _ in listed)):
        return None
    own = PseudoFile(**parse(file))
    own = own.select_images(np.array([places[image_id] for image_id, _ in listed], dtype=np.int64))
    # The names of the files that are there.
    images = [{**x, "file_name": name} for x, (_, name) in zip(own.images, listed, strict=True)]
    return replace(own, images=images, teachers=own.teachers or (HUMAN,))


def true_labels(name: str, records: Sequence[Record]) -> PseudoFile | None:
    """The labels of images that count as unlabeled; None where nobody knows any.

    Args:
        name: a registered dataset.
        records: its images, or the first of them.
    """
    try:
        file = dataset_labels(name, records)
    except (KeyError, ValueError, FileNotFoundError) as error:
        logging.getLogger(__name__).info("The labels of %s can't be read (%s).", name, error)
        return None
    return file if len(file.labels) or len(file.crowds) else None


def common_root(records: Sequence[Record], known: str | None) -> str:
    """The folder that images' file names start from, absolute.

    Args:
        records: images in Detectron2's format.
        known: the folder that the dataset's metadata name.

    Returns:
        That folder if all images are below it, else the deepest one that all share.
    """
    folders = {os.path.dirname(os.path.abspath(record["file_name"])) for record in records}
    common = os.path.commonpath(folders)
    if known and os.path.commonpath([common, os.path.abspath(known)]) == os.path.abspath(known):
        return os.path.abspath(known)
    return common


def _root_of_json(source: str, file: PseudoFile) -> str:
    # The images are not needed by all who ask: only a folder that was named must exist.
    root = file.info["image_root"]
    if source.endswith(".json") and root:
        return os.path.abspath(json_path(source).parent / root)
    try:
        return os.path.abspath(image_root(source, file))
    except FileNotFoundError:
        if not source.endswith(".json"):
            raise
        return ""

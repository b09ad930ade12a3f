"""Checks before training that the datasets a config names are there.

COCO and Pascal VOC are registered by Detectron2 itself, whether their files exist or not.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.utils.file_io import PathManager

from distill.data.catalog import read_classes, use_one_reader
from distill.data.digits import SPLITS, prepare_split
from distill.data.registration import is_json_dataset, register_json_dataset

__all__ = ["check_datasets"]

# What names images that a teacher labels.
_NEED_NO_BOXES = ("DATASETS.UNLABELED", "--dataset")


def check_datasets(names: Sequence[str], *, key: str = "DATASETS.TRAIN") -> None:
    """Verifies that datasets are registered and that their files exist; makes the built-in ones.

    COCO files, FILE.json or FILE.json@FOLDER, are registered under that name. All COCO files are
    read, registered ones too, so that what is wrong with them is said here.

    Args:
        names: names of datasets, or files.
        key: the config key they come from, for the messages.

    Raises:
        ValueError: a name is not registered, or a JSON file is damaged or lists no image.
        FileNotFoundError: a file or folder of a dataset is missing.
    """
    for name in names:
        if is_json_dataset(name):
            file = register_json_dataset(name)
            if not file.images:
                raise ValueError(f"{key} has {name}, which lists no image: name a file that does.")
            if not file.has_annotations and key not in _NEED_NO_BOXES:
                raise ValueError(
                    f"{file.path}: 'annotations' is missing, and so {key} can't name it: add the "
                    "list."
                )
            if key == "DATASETS.TEST" and all(x["iscrowd"] for x in file.annotations):
                raise ValueError(
                    f"{key} has {name}, which has no box, and so there is no AP: name a file that "
                    "does."
                )
            continue
        if name not in DatasetCatalog.list():
            raise ValueError(_unknown_name(name, key))
        use_one_reader(name)
        metadata = MetadataCatalog.get(name)
        if name in SPLITS:
            prepare_split(name, Path(metadata.json_file).parent.parent)
        for path in _files_of(metadata):
            if not PathManager.exists(path):
                raise FileNotFoundError(
                    f"{key} has {name}, but {path} is missing: {_where_to_put_it(metadata)}"
                )
        read_classes(name)


def _unknown_name(name: str, key: str) -> str:
    near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "register it first."
    return f"{key} has {name}, which is not a registered dataset: {hint}"


def _files_of(metadata: Metadata) -> Iterator[str]:
    """Files and folders without which the dataset cannot be read, the telling ones first."""
    if metadata.get("dirname") and metadata.get("split"):
        yield os.path.join(metadata.dirname, "ImageSets", "Main", f"{metadata.split}.txt")
        yield os.path.join(metadata.dirname, "Annotations")
        yield os.path.join(metadata.dirname, "JPEGImages")
    for attribute in ("json_file", "image_root"):
        # A path with a scheme is fetched by Detectron2 when it is read.
        if "://" not in (path := metadata.get(attribute) or "://"):
            yield path


def _where_to_put_it(metadata: Metadata) -> str:
    if metadata.get("evaluator_type") == "pascal_voc":
        inside = "VOC2007/ImageSets/Main/trainval.txt"
    else:
        inside = "coco/annotations/instances_train2017.json"
    now = os.environ.get("DETECTRON2_DATASETS")
    state = f"it is {now}" if now else "it is not set, which means ./datasets"
    return f"set DETECTRON2_DATASETS to the folder that holds, for example, {inside} ({state})."

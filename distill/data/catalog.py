"""Datasets that are registered with Detectron2's reader of COCO files, read by the one reader."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from distill.data.coco_json.reading import read_coco
from distill.data.coco_json.records import describe, load_coco_records
from distill.data.registration import is_json_dataset, register_json_dataset

__all__ = ["read_classes", "use_one_reader"]

# An attribute of functions that read a COCO file by our reader.
_MARK = "reads_coco_json"


def use_one_reader(name: str) -> None:
    """Makes a dataset one that :func:`load_coco_records` reads, if it is a COCO file.

    A path is registered, and Detectron2's `load_coco_json` is replaced in the function that
    reads a registered dataset, be it Detectron2's own or a user's. Other datasets stay as they are.

    Args:
        name: a dataset, FILE.json, or FILE.json@FOLDER.

    Raises:
        FileNotFoundError, ValueError: one sentence, if a JSON file is missing or damaged.
    """
    if is_json_dataset(name) and name not in DatasetCatalog.list():
        register_json_dataset(name)
    read = DatasetCatalog.data.get(name)
    ours = _with_our_reader(read)
    if ours is read:
        return
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, ours)


def read_classes(name: str) -> None:
    """Tells a registered dataset's metadata of the classes of its COCO file, ahead of its records.

    Args:
        name: a registered dataset; others than COCO's are left alone.

    Raises:
        FileNotFoundError, ValueError: one sentence, if the file is missing or damaged.
    """
    metadata = MetadataCatalog.get(name)
    if DatasetCatalog.data.get(name).__dict__.get(_MARK) and metadata.get("json_file"):
        describe(name, read_coco(metadata.json_file, keep_unlisted=False))


def _with_our_reader(read: Callable | None) -> Callable | None:
    """A function that reads a dataset, with our reader in the place of Detectron2's."""
    if isinstance(read, functools.partial) and read.func is load_coco_json:
        ours = functools.partial(load_coco_records, *read.args, **read.keywords)
        setattr(ours, _MARK, True)
        return ours
    code, known = getattr(read, "__code__", None), getattr(read, "__globals__", {})
    names = [x for x in getattr(code, "co_names", ()) if known.get(x) is load_coco_json]
    cells = getattr(read, "__closure__", None) or ()
    inside = [cell for cell in cells if _content(cell) is load_coco_json]
    if not names and not inside:
        return read
    # A copy of the function alone: others in its module go on with what they know.
    known = {**known, **dict.fromkeys(names, load_coco_records)}
    cells = tuple(types.CellType(load_coco_records) if x in inside else x for x in cells)
    copied = types.FunctionType(code, known, read.__name__, read.__defaults__, cells)
    copied.__kwdefaults__ = read.__kwdefaults__
    setattr(copied, _MARK, True)
    return copied


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None

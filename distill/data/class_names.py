"""The class names of datasets that are named but not loaded: a COCO file says them itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable

from detectron2.data import DatasetCatalog, MetadataCatalog

from distill.data.pseudo.file import PseudoFile
from distill.data.registration import is_json_dataset, json_path

__all__ = ["note_class_names"]


def note_class_names(names: Iterable[str]) -> None:
    """Lets `views.classes.class_names` know datasets whose COCO file is there.

    The images do not have to be there, and neither does a dataset have to be registered: those of a
    teacher often are not. What is known already stays.

    Args:
        names: datasets, as configs name them; "" is none.

    Raises:
        ValueError: one sentence, if a file is there but damaged.
    """
    for name in filter(None, names):
        metadata = MetadataCatalog.get(name)
        registered = name in DatasetCatalog.list()
        unregistered_file = is_json_dataset(name) and not registered
        file = str(json_path(name)) if unregistered_file else metadata.get("json_file")
        if not file or not os.path.isfile(file):
            continue
        if unregistered_file:
            # As it is now: another file may have had the name before.
            MetadataCatalog.remove(name)
        elif metadata.get("thing_classes") is not None:
            continue
        classes = _categories(file, os.stat(file).st_mtime_ns)
        MetadataCatalog.get(name).thing_classes = list(classes)


@functools.lru_cache(maxsize=16)
def _categories(path: str, changed_ns: int) -> tuple[str, ...]:
    """The classes of a file as it was at a time."""
    return PseudoFile.load(path).class_names

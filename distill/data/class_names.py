"""The class names of datasets that are named but not loaded: a COCO file says them itself."""

from __future__ import annotations

import os
from collections.abc import Iterable

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import nn

from distill.data.coco_json import read_coco
from distill.data.registration import is_json_dataset, json_path
from distill.utils.wording import some_of
from distill.views.classes import class_names, naming_dataset, num_classes
from distill.views.detector_keys import classes_key

__all__ = ["check_class_number", "check_student_classes", "note_class_names"]


def note_class_names(names: Iterable[str]) -> None:
    """Lets `views.classes.class_names` know datasets whose COCO file is there.

    The images do not have to be there, and neither does a dataset have to be registered: those of a
    teacher often are not. Names that metadata have of another dataset stay.

    Args:
        names: datasets, as configs name them; "" is none.

    Raises:
        ValueError: one sentence, if a file is there but damaged.
    """
    for name in filter(None, names):
        metadata = MetadataCatalog.get(name)
        if is_json_dataset(name) and "://" not in name:
            # As the file is now: another may have had the name before, in this process too.
            path = json_path(name)
            classes = _classes(path) if path.is_file() else []
            if list(metadata.get("thing_classes") or []) != classes:
                known = {**metadata.as_dict(), "thing_classes": classes}
                MetadataCatalog.remove(name)
                MetadataCatalog.get(name).set(**{k: x for k, x in known.items() if k != "name"})
        elif metadata.get("thing_classes") is None:
            file = metadata.get("json_file")
            if file and os.path.isfile(file):
                metadata.thing_classes = _classes(file)


def _classes(path: str | os.PathLike[str]) -> list[str]:
    return list(read_coco(path, keep_unlisted=False).class_names)


def check_class_number(cfg: CfgNode, number: int | None, *, trains: bool = True) -> None:
    """Refuses a student that predicts another number of classes than its dataset has.

    Args:
        cfg: the student's config.
        number: classes that it predicts; None if that is not known.
        trains: whether it will be trained, or only evaluated.

    Raises:
        ValueError: one sentence that names key and dataset.
    """
    names = class_names(cfg)
    if not names or number is None or len(names) == number:
        return
    key = classes_key(cfg)
    remedy = f"set {key or 'its NUM_CLASSES'} to {len(names)}"
    if not trains:
        remedy += ", or DATASETS.TRAIN to the dataset that it was trained on"
    elif not cfg.DATASETS.TRAIN:
        remedy += ", or DISTILL.PSEUDO.CLASSES_OF to the dataset whose classes it learns"
    raise ValueError(
        f"The student predicts {number} classes{f' ({key})' if key else ''}, but its dataset "
        f"{naming_dataset(cfg)} has {len(names)} ({some_of(names, 5)}): {remedy}"
    )


def check_student_classes(cfg: CfgNode, student: nn.Module) -> None:
    """Refuses a student that was built with another number of classes than its dataset has.

    Keys say the number beforehand only of the detectors that registered theirs.

    Args:
        cfg: the config.
        student: the student.

    Raises:
        ValueError: one sentence that names the dataset.
    """
    try:
        number = num_classes(student)
    except AttributeError:
        # A network that only proposes boxes.
        return
    note_class_names((naming_dataset(cfg),))
    check_class_number(cfg, number)

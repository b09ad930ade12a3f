"""Images that evaluations use, which no student may learn from."""

from __future__ import annotations

import os
from collections.abc import Collection

from detectron2.data import DatasetCatalog, MetadataCatalog

__all__ = ["refuse_evaluation_images"]

_NAMES = ("_val", "_test", "minival")


def refuse_evaluation_images(
    dataset: str | None, images: str | None, tested: Collection[str]
) -> None:
    """Verifies that what a teacher is to label is there for training.

    Args:
        dataset: a registered dataset, or None.
        images: a folder, or None.
        tested: names of datasets that the teacher's config tests on; others are known by their
            names.

    Raises:
        ValueError: one sentence, if it is an evaluation set or the folder of one.
    """
    if dataset and _is_evaluated(dataset, tested):
        raise ValueError(
            f"--dataset {dataset} is there to evaluate with, and a student that learns its images "
            "looks better than it is: label other images, or add --force."
        )
    folder = os.path.realpath(images) if images else ""
    for name in DatasetCatalog.list() if images else ():
        root = MetadataCatalog.get(name).get("image_root")
        if root and _is_evaluated(name, tested) and os.path.realpath(root) == folder:
            raise ValueError(
                f"--images {images} has the images of {name}, which is there to evaluate with: "
                "label other images, or add --force."
            )


def _is_evaluated(name: str, tested: Collection[str]) -> bool:
    return name in tested or any(part in name for part in _NAMES)

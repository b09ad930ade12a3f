"""COCO's unlabeled images, which Detectron2 does not register."""

from __future__ import annotations

import os

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

__all__ = ["UNLABELED", "register_coco_unlabeled"]

UNLABELED = "coco_2017_unlabeled"


def register_coco_unlabeled() -> None:
    """Registers `coco_2017_unlabeled`, 123,403 images, where Detectron2 looks for COCO.

    That is ``$DETECTRON2_DATASETS/coco``, by default ``datasets/coco``: the folder unlabeled2017,
    and annotations/image_info_unlabeled2017.json.
    """
    if UNLABELED in DatasetCatalog.list():
        return
    root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    register_coco_instances(
        UNLABELED,
        _get_builtin_metadata("coco"),
        os.path.join(root, "coco/annotations/image_info_unlabeled2017.json"),
        os.path.join(root, "coco/unlabeled2017"),
    )


register_coco_unlabeled()

"""Files in which some boxes are pseudo labels, which have neither masks nor keypoints."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.data.coco_json import read_coco
from distill.data.pseudo.labels import HUMAN
from distill.data.registration import is_json_dataset, json_path

__all__ = ["refuse_pseudo_masks"]

_TARGETS = {"MASK_ON": ("segmentation", "masks"), "KEYPOINT_ON": ("keypoints", "keypoints")}


def refuse_pseudo_masks(cfg: CfgNode) -> None:
    """Refuses to train masks or keypoints on a file of DATASETS.TRAIN that has pseudo labels.

    Boxes of teachers have none, and would be left out: their objects would be background.

    Args:
        cfg: the config.

    Raises:
        ValueError: one sentence that names the key and the file.
    """
    on = {key: names for key, names in _TARGETS.items() if cfg.MODEL[key]}
    for path in [json_path(name) for name in cfg.DATASETS.TRAIN if is_json_dataset(name)]:
        for key, (entry, words) in on.items():
            bare = [x for x in read_coco(path).annotations if not x.get(entry)]
            found = sum((x.get("teacher") or HUMAN) != HUMAN for x in bare)
            if found:
                raise ValueError(
                    f"MODEL.{key} is True, but {path} has {found} pseudo labels without {words}: "
                    "set it to False, or train on the labels that it was completed from."
                )

"""Whether training images have the masks and keypoints that a config trains on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.build import filter_images_with_few_keypoints

from distill.data.coco_json.masks import is_sound_rle
from distill.data.mapper import Annotation, Record

__all__ = ["check_keypoint_sigmas", "fit_annotations"]

_logger = logging.getLogger(__name__)

# Keypoints of COCO's people, whose sigmas its evaluation knows.
_COCO_KEYPOINTS = 17


def fit_annotations(
    cfg: CfgNode, names: Sequence[str], records: Sequence[Record]
) -> Sequence[Record]:
    """Training images as MODEL.MASK_ON and MODEL.KEYPOINT_ON need them.

    With masks, boxes that have none are left out, as Detectron2 does it. With keypoints, boxes
    without any have only invisible ones. Images without a box or with too few keypoints are left
    out as DATALOADER.FILTER_EMPTY_ANNOTATIONS and MODEL.ROI_KEYPOINT_HEAD say.

    Args:
        cfg: the config.
        names: the datasets.
        records: their images.

    Raises:
        ValueError: one sentence that names the key, if masks or keypoints are missing or of another
            form.
    """
    if not isinstance(records, list):  # a dataset that makes its records when they are asked for
        return records
    source = f"DATASETS.TRAIN {tuple(names)}"
    if cfg.MODEL.MASK_ON:
        records = _with_masks(cfg, source, records)
    if cfg.MODEL.KEYPOINT_ON:
        _complete_keypoints(cfg, names, records)
        check_keypoint_sigmas(cfg)
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = _without_empty(source, records)
    least = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    if cfg.MODEL.KEYPOINT_ON and least > 0:
        records = filter_images_with_few_keypoints(records, least)
    return records


def check_keypoint_sigmas(cfg: CfgNode) -> None:
    """Refuses to evaluate keypoints without a sigma each.

    Raises:
        ValueError: one sentence that names the key.
    """
    number, sigmas = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS, len(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    if cfg.MODEL.KEYPOINT_ON and cfg.DATASETS.TEST and (sigmas or _COCO_KEYPOINTS) != number:
        raise ValueError(
            f"TEST.KEYPOINT_OKS_SIGMAS has {sigmas} numbers for {number} keypoints: give one for "
            "each, such as 0.05"
        )


def _with_masks(cfg: CfgNode, source: str, records: Sequence[Record]) -> Sequence[Record]:
    boxes = sum(1 for _ in _annotations(records))
    bare = sum("segmentation" not in x for x in _annotations(records))
    if boxes and bare == boxes:
        raise ValueError(
            f"MODEL.MASK_ON is True, but none of the {boxes} boxes of {source} has a mask: set it "
            "to False, or add masks"
        )
    if cfg.INPUT.MASK_FORMAT == "polygon":
        for record in records:
            for x in record.get("annotations", ()):
                if isinstance(x.get("segmentation"), dict) and not x.get("iscrowd", 0):
                    raise ValueError(
                        f"INPUT.MASK_FORMAT is polygon, but {source} has masks as RLE, that of a "
                        f"box of {record['file_name']} among them: set it to bitmask"
                    )
    broken = _drop_broken_rle(records)
    bare += broken
    if not bare:
        return records
    _logger.warning(
        "%d of the %d boxes of %s have no sound mask, and are left out, as MODEL.MASK_ON is True.",
        *(bare, boxes, source),
    )
    return [
        {**record, "annotations": [x for x in _of(record) if "segmentation" in x]}
        for record in records
    ]


def _drop_broken_rle(records: Sequence[Record]) -> int:
    """Removes masks that would stop or crash whoever unpacks them; returns how many."""
    broken = [
        x
        for x in _annotations(records)
        if isinstance(x.get("segmentation"), dict) and not is_sound_rle(x["segmentation"])
    ]
    for x in broken:
        del x["segmentation"]
    return len(broken)


def _complete_keypoints(cfg: CfgNode, names: Sequence[str], records: Sequence[Record]) -> None:
    number = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    for name in names:
        known = MetadataCatalog.get(name).get("keypoint_names")
        if known is None:
            raise ValueError(
                f"MODEL.KEYPOINT_ON is True, but {name} has no names of keypoints: add the list "
                "`keypoints` to its categories, or set it to False"
            )
        if len(known) != number:
            raise ValueError(
                f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {number}, but {name} has {len(known)} "
                f"keypoints: set it to {len(known)}"
            )
    for record in records:
        for x in record.get("annotations", ()):
            found = x.setdefault("keypoints", [0.0, 0.0, 0] * number)
            if len(found) != 3 * number:
                raise ValueError(
                    f"a box of {record['file_name']} has {len(found) / 3:g} keypoints, but its "
                    f"dataset {number}: write x, y and visibility of each"
                )


def _without_empty(source: str, records: list[Record]) -> list[Record]:
    """The images that have a box beside areas of many objects, or no list of boxes at all."""
    kept = [
        record
        for record in records
        if "annotations" not in record or not all(x.get("iscrowd", 0) for x in _of(record))
    ]
    if len(kept) < len(records):
        _logger.info(
            "%d of the %d images of %s have no box, and are left out.",
            *(len(records) - len(kept), len(records), source),
        )
    return kept


def _of(record: Record) -> Sequence[Annotation]:
    return record.get("annotations", ())


def _annotations(records: Sequence[Record]) -> Iterable[Annotation]:
    return (x for record in records for x in _of(record))

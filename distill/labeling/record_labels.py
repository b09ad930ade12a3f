"""The labels of a registered dataset as COCO's annotations, with masks and whatever else it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode

from distill.data.mapper import Record
from distill.data.pseudo.labels import PseudoLabels

__all__ = ["record_annotations", "record_categories", "record_images", "record_labels"]

_CORNERS = 4
# What records have in another form than COCO's files, or of this machine alone.
_OF_IMAGES = ("file_name", "image_id", "annotations", "width", "height")
_OF_BOXES = ("bbox", "bbox_mode", "category_id", "keypoints")


def record_images(
    records: Sequence[Record], listed: Sequence[tuple[Any, str]]
) -> list[dict[str, Any]]:
    """The images of a file; a size that a record lacks is None.

    Args:
        records: the images in Detectron2's format.
        listed: id and file name of each.
    """
    return [
        {
            "id": image_id,
            "file_name": name,
            "width": record.get("width"),
            "height": record.get("height"),
            **_rest(record, _OF_IMAGES),
        }
        for (image_id, name), record in zip(listed, records, strict=True)
    ]


def record_categories(metadata: Metadata) -> list[dict[str, Any]]:
    """The classes of a dataset with the ids and keypoints that its metadata know."""
    names = metadata.get("thing_classes") or ()
    by_class = {v: k for k, v in (metadata.get("thing_dataset_id_to_contiguous_id") or {}).items()}
    keypoints = metadata.get("keypoint_names")
    more = {"keypoints": list(keypoints)} if keypoints else {}
    return [{"id": by_class.get(i, i + 1), "name": name, **more} for i, name in enumerate(names)]


def record_annotations(
    records: Sequence[Record], listed: Sequence[tuple[Any, str]]
) -> list[dict[str, Any]]:
    """The annotations of a file, numbered from 1; category ids are the classes themselves.

    Args:
        records: the images in Detectron2's format.
        listed: id and file name of each.

    Raises:
        KeyError: if an annotation lacks something.
        ValueError: half a sentence, if one is no upright box.
    """
    found = [
        (image_id, x)
        for (image_id, _), record in zip(listed, records, strict=True)
        for x in record.get("annotations", ())
    ]
    return [
        {"id": number, "image_id": image_id, **_annotation(x)}
        for number, (image_id, x) in enumerate(found, start=1)
    ]


def record_labels(
    records: Sequence[Record], annotations: Sequence[dict[str, Any]], *, crowds: bool
) -> PseudoLabels:
    """The boxes of :func:`record_annotations`, crowds or others."""
    images = [n for n, record in enumerate(records) for _ in record.get("annotations", ())]
    rows = [
        (image, *x["bbox"], x["category_id"], place)
        for place, (image, x) in enumerate(zip(images, annotations, strict=True))
        if bool(x["iscrowd"]) == crowds
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3 + _CORNERS)
    image, classes, entry = (table[:, column].astype(np.int64) for column in (0, -2, -1))
    boxes = table[:, 1:5].copy()
    boxes[:, 2:] += boxes[:, :2]
    return PseudoLabels(image, boxes, np.ones(len(table)), classes, None, entry)


def _annotation(x: dict[str, Any]) -> dict[str, Any]:
    box = [float(value) for value in x["bbox"]]
    if len(box) != _CORNERS:
        raise ValueError(f"a box has {len(box)} numbers, not {_CORNERS}: leave out rotated boxes")
    left, top, width, height = BoxMode.convert(box, x["bbox_mode"], BoxMode.XYWH_ABS)
    result = {
        "category_id": int(x["category_id"]),
        "bbox": [left, top, width, height],
        "area": width * height,
        **_rest(x, _OF_BOXES),
        "iscrowd": int(bool(x.get("iscrowd", 0))),
    }
    if x.get("keypoints") is not None:
        # In a file a pixel's center is at its number, and not at a half.
        points = np.asarray(x["keypoints"], dtype=np.float64).reshape(-1, 3) - (0.5, 0.5, 0)
        result["keypoints"] = points.reshape(-1).tolist()
    return result


def _rest(entry: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """What an entry has besides, as far as JSON can hold it."""
    found = {}
    for key, value in entry.items():
        if key not in known:
            try:
                found[str(key)] = _plain(value)
            except TypeError:
                continue
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):  # run lengths of a mask
        return value.decode()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")

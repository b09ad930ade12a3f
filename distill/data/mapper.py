"""Model inputs of pseudo-labeled images: regions to ignore, and how much each box counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances
from torch import Tensor

__all__ = ["PseudoMapper", "ignore_boxes", "is_ignored", "name_boxes"]

Record = dict[str, Any]
Annotation = dict[str, Any]

# A side at least this long, in pixels, as Detectron2 asks of annotations.
_MIN_SIDE = 1e-5


class PseudoMapper(DatasetMapper):
    """Detectron2's mapper that also carries what pseudo labels say of their boxes.

    An annotation may have "ignore": True, for a box that is neither object nor background, and
    "score", how much it counts (1 where others of the image have one). The model input of such an
    image has, beside `instances` without the ignored boxes,

    - `ignore_boxes`: (I, 4) float32 corners in pixels of the augmented image;
    - `box_weights`: (G,) float32 weights of `instances.gt_boxes`.

    Other records are mapped as ever.
    """

    def _transform_annotations(
        self, dataset_dict: Record, transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        annotations = dataset_dict["annotations"]
        ignored = [x for x in annotations if is_ignored(x)]
        objects = [x for x in annotations if not is_ignored(x)]
        if ignored:
            dataset_dict["ignore_boxes"] = ignore_boxes(ignored, transforms, image_shape)
        weighted = any("score" in x for x in objects)
        # Detectron2 drops crowds and empty boxes without telling which: places tell.
        places = [{**x, "category_id": i} for i, x in enumerate(objects)] if weighted else objects
        dataset_dict["annotations"] = places
        super()._transform_annotations(dataset_dict, transforms, image_shape)
        if weighted:
            dataset_dict["box_weights"] = name_boxes(dataset_dict["instances"], objects)


def is_ignored(annotation: Annotation) -> bool:
    """Whether an annotation is a region that is neither object nor background."""
    return bool(annotation.get("ignore", False))


def ignore_boxes(
    annotations: Sequence[Annotation], transforms: T.Transform, image_size: tuple[int, int]
) -> Tensor:
    """Boxes as they are after the augmentation.

    Args:
        annotations: in Detectron2's format.
        transforms: what was done to the image.
        image_size: height and width of the augmented image.

    Returns:
        (I, 4) float32 corners in pixels, cut at the image's borders; without empty ones.
    """
    boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in annotations]
    table = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    moved = Boxes(torch.from_numpy(transforms.apply_box(table)))
    moved.clip(image_size)
    return moved[moved.nonempty(_MIN_SIDE)].tensor


def name_boxes(instances: Instances, annotations: Sequence[Annotation]) -> Tensor | None:
    """Gives boxes the classes of the annotations that they come from.

    Args:
        instances: `gt_classes` are places in `annotations`; they become classes.
        annotations: in Detectron2's format.

    Returns:
        (G,) float32 scores, 1 where an annotation has none; None if no annotation has one.
    """
    places = instances.gt_classes
    classes = torch.tensor([int(x["category_id"]) for x in annotations], dtype=torch.int64)
    instances.gt_classes = classes[places]
    if not any("score" in x for x in annotations):
        return None
    return torch.tensor([float(x.get("score", 1.0)) for x in annotations])[places]

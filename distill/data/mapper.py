"""Model inputs of images with boxes to ignore."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode
from torch import Tensor

from distill.data.image_files import read_record

__all__ = ["PseudoMapper", "Record", "is_ignored", "visible_boxes"]

# An image in Detectron2's format, as a dataset lists it or as a model takes it.
Record = dict[str, Any]
Annotation = dict[str, Any]

# A side at least this long, in pixels, as Detectron2 asks of annotations.
_MIN_SIDE = 1e-5


class PseudoMapper(DatasetMapper):
    """Detectron2's mapper that carries boxes to ignore, and reads images as the whole library does.

    An annotation may have "ignore": True, for a box that is neither object nor background. The
    model input of such an image has, beside `instances` without the ignored boxes,

    - `ignore_boxes`: (I, 4) float32 corners in pixels of the augmented image.

    Other records are mapped as ever.
    """

    def __call__(self, dataset_dict: Record) -> Record:
        """Reads and augments one image.

        Args:
            dataset_dict: in Detectron2's format.

        Raises:
            UnreadableImage: if the image is missing, damaged or of another size than it says.
        """
        record = copy.deepcopy(dataset_dict)
        inputs = T.AugInput(read_record(record, self.image_format))
        if "sem_seg_file_name" in record:
            # Numbers of classes: there is nothing to scale.
            inputs.sem_seg = utils.read_image(record.pop("sem_seg_file_name"), "L").squeeze(2)
        transforms = self.augmentations(inputs)
        size = inputs.image.shape[:2]
        record["image"] = torch.from_numpy(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        if inputs.sem_seg is not None:
            record["sem_seg"] = torch.from_numpy(inputs.sem_seg.astype(np.int64))
        if self.proposal_topk is not None:
            utils.transform_proposals(record, size, transforms, proposal_topk=self.proposal_topk)
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, size)
        return record

    def _transform_annotations(
        self, dataset_dict: Record, transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        annotations = dataset_dict["annotations"]
        ignored = [x for x in annotations if is_ignored(x)]
        if ignored:
            dataset_dict["ignore_boxes"] = _moved_boxes(ignored, transforms, image_shape)
            dataset_dict["annotations"] = [x for x in annotations if not is_ignored(x)]
        super()._transform_annotations(dataset_dict, transforms, image_shape)


def is_ignored(annotation: Annotation) -> bool:
    """Whether an annotation is a box that is neither object nor background."""
    return bool(annotation.get("ignore", False))


def visible_boxes(table: Tensor, image_size: tuple[int, int]) -> tuple[Boxes, Tensor]:
    """Cuts boxes at the borders of an image.

    Args:
        table: (B, 4) corners in pixels.
        image_size: its height and width.

    Returns:
        What is left of them, and (B,) bool, whether something is.
    """
    boxes = Boxes(table)
    boxes.clip(image_size)
    kept = boxes.nonempty(_MIN_SIDE)
    return boxes[kept], kept


def _moved_boxes(
    annotations: Sequence[Annotation], transforms: T.Transform, image_size: tuple[int, int]
) -> Tensor:
    """(I, 4) float32 corners after the augmentation, cut at the image's borders, none empty."""
    boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in annotations]
    table = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return visible_boxes(torch.from_numpy(transforms.apply_box(table)), image_size)[0].tensor

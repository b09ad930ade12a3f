"""SSD's augmentation (arXiv 1512.02325).

Probabilities and ranges are those of the authors' code, as torchvision's training of SSD has them:
brightness is a factor there, not an offset, contrast is changed about the image's mean, and
saturation by blending with gray. All draws are torch's, whose global state the training loader
seeds for each image.

Torchvision's v2 transforms do most of it. Their crop (`RandomIoUCrop`) is not taken: it takes one
table of boxes, so that ignored ones could not follow; it draws patches without end where no object
is; and it limits the patch's own ratio of sides, where the authors limit that to the image's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.structures import BoxMode, Instances
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from distill.data.image_files import read_record
from distill.data.mapper import PseudoMapper, Record, is_ignored, visible_boxes
from distill.ops.boxes import aligned_overlap, box_centers

__all__ = ["BoxMapper", "MinIoUCrop", "build_ssd_mapper", "color_distortion"]

# Takes and returns image, objects and ignored boxes, as v2's transforms do.
Step = Callable[..., tuple[Tensor, tv_tensors.BoundingBoxes, tv_tensors.BoundingBoxes]]


def color_distortion() -> v2.Transform:
    """Brightness, contrast, saturation and hue of an image, each changed with probability 1/2.

    `v2.RandomPhotometricDistort` does the same, but shuffles the channels too, which the authors'
    settings do not.
    """

    def maybe(**factor: tuple[float, float]) -> v2.Transform:
        return v2.RandomApply([v2.ColorJitter(**factor)], p=0.5)

    contrast = maybe(contrast=(0.5, 1.5))
    color = [maybe(saturation=(0.5, 1.5)), maybe(hue=(-0.05, 0.05))]
    orders = [v2.Compose([contrast, *color]), v2.Compose([*color, contrast])]
    return v2.Compose([maybe(brightness=(0.875, 1.125)), v2.RandomChoice(orders)])


class MinIoUCrop:
    """Crops a patch that has at least a drawn IoU with some object whose center it contains.

    The IoU is one of 0, 0.1, 0.3, 0.5, 0.7 and 0.9, or, as often as each of these, the image stays
    whole; it also does where no drawn patch fits. Objects whose center lies outside the patch lose
    their area.
    """

    ious = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    # Smallest square root of the patch's share of the image's area.
    min_scale = 0.3
    # Patches that are drawn.
    trials = 50

    def __call__(
        self,
        image: Tensor,
        objects: tv_tensors.BoundingBoxes,
        ignored: tv_tensors.BoundingBoxes,
    ) -> tuple[Tensor, tv_tensors.BoundingBoxes, tv_tensors.BoundingBoxes]:
        """Draws the patch and crops.

        Args:
            image: (C, H, W).
            objects: (G, 4) corners in pixels.
            ignored: (I, 4) likewise; they have no say in the choice.
        """
        patch = self.draw(objects.as_subclass(Tensor), *image.shape[-2:])
        if patch is None:
            return image, objects, ignored
        left, top, right, bottom = patch.tolist()
        inside = _contains_center(patch, objects.as_subclass(Tensor))
        image, objects, ignored = (
            v2.functional.crop(x, top, left, bottom - top, right - left)
            for x in (image, objects, ignored)
        )
        objects[~inside] = 0
        return image, objects, ignored

    def draw(self, boxes: Tensor, height: int, width: int) -> Tensor | None:
        """Draws a patch.

        Args:
            boxes: (G, 4) corners in pixels.
            height: of the image.
            width: of the image.

        Returns:
            (4,) int64 corners; None to leave the image whole.
        """
        option = int(torch.randint(len(self.ious) + 1, ()))
        if option == len(self.ious) or not len(boxes):
            return None
        patches = self._patches(height, width)
        overlap = aligned_overlap(patches[:, None], boxes, "iou")
        fits = _contains_center(patches[:, None], boxes) & (overlap >= self.ious[option])
        fits = fits.any(dim=1).nonzero()
        return patches[fits[0, 0]] if len(fits) else None

    def _patches(self, height: int, width: int) -> Tensor:
        """(trials, 4) int64, whose sides' ratios to the image's differ at most twofold."""
        scale = torch.empty(self.trials).uniform_(self.min_scale, 1)
        low, high = (scale**2).clamp(min=0.5), (1 / scale**2).clamp(max=2)
        ratio = (low + (high - low) * torch.rand(self.trials)).sqrt()
        sides = torch.stack([width * scale * ratio, height * scale / ratio], dim=1)
        sides = sides.long().clamp(min=1)
        room = torch.tensor([width, height]) - sides
        corner = (torch.rand(self.trials, 2) * (room + 1)).long().minimum(room)
        return torch.cat([corner, corner + sides], dim=1)


class BoxMapper:
    """Makes model inputs of records, as Detectron2's DatasetMapper does, with boxes only.

    Unlike that one it shows the boxes to the augmentation, which may drop objects.
    """

    def __init__(
        self, steps: Sequence[Step], image_format: str, distortion: v2.Transform | None = None
    ) -> None:
        """Describes what happens to an image.

        Args:
            steps: what moves image, objects and ignored boxes, in this order.
            image_format: order of the channels, as in INPUT.FORMAT.
            distortion: of an RGB image's colors, before the steps.
        """
        self.steps = steps
        self.image_format = image_format
        self.distortion = distortion

    def __call__(self, record: Record) -> Record:
        """Reads and augments one image.

        Args:
            record: Detectron2's dataset dict.

        Returns:
            The record without annotations; with `image` (3, H, W) uint8, and with `instances` if it
            had annotations; with `ignore_boxes` as PseudoMapper has them.
        """
        # A size that the record lacks is added to it.
        record = dict(record)
        pixels = read_record(record, "RGB")
        picture = Image.fromarray(pixels)
        if self.distortion is not None:
            picture = self.distortion(picture)
        pixels = convert_PIL_to_numpy(picture, self.image_format).transpose(2, 0, 1)
        image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels)))

        annotations = record.get("annotations", ())
        labeled = [x for x in annotations if not x.get("iscrowd", 0) and not is_ignored(x)]
        objects = _boxes(labeled, image)
        ignored = _boxes([x for x in annotations if is_ignored(x)], image)
        for step in self.steps:
            image, objects, ignored = step(image, objects, ignored)

        sample = {key: value for key, value in record.items() if key != "annotations"}
        sample["image"] = image.as_subclass(Tensor)
        size = tuple(image.shape[-2:])
        if "annotations" in record:
            classes = torch.tensor([int(x["category_id"]) for x in labeled], dtype=torch.int64)
            boxes, kept = visible_boxes(objects.as_subclass(Tensor), size)
            sample["instances"] = Instances(size, gt_boxes=boxes, gt_classes=classes[kept])
        if len(ignored):
            sample["ignore_boxes"] = visible_boxes(ignored.as_subclass(Tensor), size)[0].tensor
        return sample


def build_ssd_mapper(cfg: CfgNode, *, is_train: bool) -> Callable[[Record], Record]:
    """Builds the mapper of INPUT.AUGMENTATION "ssd".

    Args:
        cfg: the config; MODEL.SSD.IMAGE_SIZE, MODEL.PIXEL_MEAN (the canvas' color), INPUT.FORMAT
            and INPUT.RANDOM_FLIP are read.
        is_train: augment; False only resizes.

    Raises:
        ValueError: if more than boxes would have to be augmented.
    """
    size = cfg.MODEL.SSD.IMAGE_SIZE
    if not is_train:
        return PseudoMapper(cfg, is_train=False, augmentations=[T.Resize(size)])
    for key in ("MASK_ON", "KEYPOINT_ON", "LOAD_PROPOSALS"):
        if cfg.MODEL[key]:
            raise ValueError(
                f"INPUT.AUGMENTATION ssd moves boxes only: set MODEL.{key} to False, or take the "
                "augmentation default."
            )
    steps = [
        # On a canvas of up to four times the image's width and height.
        v2.RandomZoomOut([int(x) for x in cfg.MODEL.PIXEL_MEAN], side_range=(1.0, 4.0), p=0.5),
        MinIoUCrop(),
        v2.Resize((size, size), antialias=True),
    ]
    if cfg.INPUT.RANDOM_FLIP == "horizontal":
        steps.append(v2.RandomHorizontalFlip())
    elif cfg.INPUT.RANDOM_FLIP == "vertical":
        steps.append(v2.RandomVerticalFlip())
    return BoxMapper(steps, cfg.INPUT.FORMAT, color_distortion())


def _boxes(annotations: Sequence[Record], image: Tensor) -> tv_tensors.BoundingBoxes:
    """(G, 4) float32 corners in the image (C, H, W)."""
    boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in annotations]
    table = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return tv_tensors.BoundingBoxes(table, format="XYXY", canvas_size=tuple(image.shape[-2:]))


def _contains_center(patches: Tensor, boxes: Tensor) -> Tensor:
    """Whether patches (..., 4) contain the centers of boxes (..., 4)."""
    centers = box_centers(boxes)
    return ((centers >= patches[..., :2]) & (centers <= patches[..., 2:])).all(dim=-1)

"""SSD's augmentation (arXiv 1512.02325) as Detectron2 augmentations.

The probabilities and ranges are those of the authors' code. All draws are NumPy's, whose global
state the training loader seeds for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from distill.data.mapper import ignore_boxes, is_ignored

__all__ = [
    "BoxMapper",
    "MinIoURandomCrop",
    "PhotometricDistortion",
    "RandomExpand",
    "build_ssd_mapper",
]

Record = dict[str, Any]


class PhotometricDistortion(T.Augmentation):
    """Brightness, contrast, saturation and hue, each changed with probability 1/2."""

    def __init__(self, image_format: str = "BGR") -> None:
        """Describes the images.

        Args:
            image_format: order of their channels, BGR or RGB.
        """
        super().__init__()
        self.image_format = image_format

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draws the changes.

        Args:
            image: (H, W, 3) uint8.
        """
        brightness = T.BlendTransform(self._maybe(-32, 32, 0), 1, 1)
        contrast = T.BlendTransform(0, 0, self._maybe(0.5, 1.5, 1))
        color = partial(
            _shift_hsv,
            hue=self._maybe(-18, 18, 0),
            saturation=self._maybe(0.5, 1.5, 1),
            image_format=self.image_format,
        )
        color = T.ColorTransform(color)
        later = [contrast, color] if np.random.randint(2) else [color, contrast]
        return T.TransformList([brightness, *later])

    def _maybe(self, low: float, high: float, neutral: float) -> float:
        """A number from the range, or the one that changes nothing."""
        return self._rand_range(low, high) if np.random.randint(2) else neutral


class RandomExpand(T.Augmentation):
    """Puts the image somewhere on a canvas up to `max_ratio` times as wide and high."""

    def __init__(
        self, color: Sequence[float], max_ratio: float = 4.0, probability: float = 0.5
    ) -> None:
        """Describes the canvas.

        Args:
            color: of the canvas, one value for each channel of the image.
            max_ratio: of the canvas' sides to the image's; drawn from 1 to this.
            probability: of doing anything.
        """
        super().__init__()
        self.color = color
        self.max_ratio = max_ratio
        self.probability = probability

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draws the canvas.

        Args:
            image: (H, W, C).
        """
        if self._rand_range() >= self.probability:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        ratio = self._rand_range(1, self.max_ratio)
        right, below = int(width * (ratio - 1)), int(height * (ratio - 1))
        left, above = np.random.randint(right + 1), np.random.randint(below + 1)
        return _ColoredPad(left, above, right - left, below - above, pad_value=self.color)


class MinIoURandomCrop(T.Augmentation):
    """Crops a patch that has at least a drawn IoU with some object whose center it contains.

    The IoU is one of 0, 0.1, 0.3, 0.5, 0.7 and 0.9, or, as often as each of these, the image stays
    whole; it also does where no drawn patch fits. Objects whose center lies outside the patch are
    left in, and are for the mapper to drop.
    """

    ious = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)

    def __init__(self, min_scale: float = 0.3, trials: int = 50) -> None:
        """Describes the patches.

        Args:
            min_scale: smallest square root of the patch's share of the image's area.
            trials: patches that are drawn.
        """
        super().__init__()
        self.min_scale = min_scale
        self.trials = trials

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        """Draws the patch.

        Args:
            image: (H, W, C).
            boxes: (G, 4) corners in pixels.
        """
        option = np.random.randint(len(self.ious) + 1)
        if option == len(self.ious) or not len(boxes):
            return T.NoOpTransform()
        height, width = image.shape[:2]
        patches = self._draw(height, width)
        contained = _contains_center(patches[:, None], boxes)
        fits = (contained & (_iou(patches[:, None], boxes) >= self.ious[option])).any(axis=1)
        if not fits.any():
            return T.NoOpTransform()
        x0, y0, x1, y1 = patches[fits.argmax()].tolist()
        return T.CropTransform(x0, y0, x1 - x0, y1 - y0, width, height)

    def _draw(self, height: int, width: int) -> np.ndarray:
        """Patches (trials, 4) int64, whose sides' ratios to the image's differ at most twofold."""
        scale = np.random.uniform(self.min_scale, 1, self.trials)
        ratio = np.random.uniform(np.maximum(0.5, scale**2), np.minimum(2, 1 / scale**2))
        size = np.stack([width * scale * np.sqrt(ratio), height * scale / np.sqrt(ratio)], axis=1)
        size = np.maximum(size.astype(np.int64), 1)
        room = np.array([width, height]) - size
        corner = np.random.randint(0, room + 1)
        return np.concatenate([corner, corner + size], axis=1)


class BoxMapper:
    """Makes model inputs of records, as Detectron2's DatasetMapper does, with boxes only.

    Unlike that one it shows the boxes to the augmentations, and drops objects whose center leaves
    the image.
    """

    def __init__(self, augmentations: Sequence[T.Augmentation], image_format: str) -> None:
        """Describes what happens to an image.

        Args:
            augmentations: applied in this order; they may ask for `image` and `boxes`.
            image_format: order of the channels, as in INPUT.FORMAT.
        """
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format

    def __call__(self, record: Record) -> Record:
        """Reads and augments one image.

        Args:
            record: Detectron2's dataset dict.

        Returns:
            The record without annotations; with `image` (3, H, W) uint8, and with `instances` if it
            had annotations; with `ignore_boxes` as PseudoMapper has them.
        """
        image = utils.read_image(record["file_name"], format=self.image_format)
        utils.check_image_size(record, image)
        ignored = [x for x in record.get("annotations", ()) if is_ignored(x)]
        annotations = [
            x
            for x in record.get("annotations", ())
            if not x.get("iscrowd", 0) and not is_ignored(x)
        ]
        boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], _CORNERS) for x in annotations]
        augmented = T.AugInput(image, boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4))
        transforms = self.augmentations(augmented)

        sample = {key: value for key, value in record.items() if key != "annotations"}
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        sample["image"] = torch.from_numpy(pixels)
        if "annotations" in record:
            sample["instances"] = _instances(augmented, [x["category_id"] for x in annotations])
        if ignored:
            size = augmented.image.shape[:2]
            sample["ignore_boxes"] = ignore_boxes(ignored, transforms, size)
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
    resize = T.Resize(cfg.MODEL.SSD.IMAGE_SIZE)
    if not is_train:
        return DatasetMapper(cfg, is_train=False, augmentations=[resize])
    for key in ("MASK_ON", "KEYPOINT_ON", "LOAD_PROPOSALS"):
        if cfg.MODEL[key]:
            raise ValueError(
                f"INPUT.AUGMENTATION ssd moves boxes only: set MODEL.{key} to False, or take the "
                "augmentation default."
            )
    augmentations = [
        PhotometricDistortion(cfg.INPUT.FORMAT),
        RandomExpand(cfg.MODEL.PIXEL_MEAN),
        MinIoURandomCrop(),
        resize,
    ]
    flip = cfg.INPUT.RANDOM_FLIP
    if flip != "none":
        horizontal, vertical = flip == "horizontal", flip == "vertical"
        augmentations.append(T.RandomFlip(horizontal=horizontal, vertical=vertical))
    return BoxMapper(augmentations, cfg.INPUT.FORMAT)


_CORNERS = BoxMode.XYXY_ABS


class _ColoredPad(T.PadTransform):
    """Padding with a color, where fvcore's pads all channels with one value."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        height, width = img.shape[:2]
        canvas = np.empty(
            (height + self.y0 + self.y1, width + self.x0 + self.x1, img.shape[2]), img.dtype
        )
        canvas[:] = self.pad_value
        canvas[self.y0 : self.y0 + height, self.x0 : self.x0 + width] = img
        return canvas


def _shift_hsv(
    image: np.ndarray, *, hue: float, saturation: float, image_format: str
) -> np.ndarray:
    """Turns the hue by degrees and multiplies the saturation of an (H, W, 3) uint8 image."""
    if hue == 0 and saturation == 1:
        # The way to HSV and back would round.
        return image
    order = slice(None, None, -1 if image_format == "BGR" else 1)
    hsv = np.array(Image.fromarray(np.ascontiguousarray(image[..., order])).convert("HSV"))
    # An unsigned byte is a full turn.
    hsv[..., 0] += np.uint8(round(hue / 360 * 256) % 256)
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255)
    height, width = hsv.shape[:2]
    changed = Image.frombytes("HSV", (width, height), hsv.tobytes())
    return np.asarray(changed.convert("RGB"))[..., order]


def _instances(augmented: T.AugInput, classes: Sequence[int]) -> Instances:
    """The objects whose center is in the image, cut at its borders."""
    height, width = augmented.image.shape[:2]
    kept = _contains_center(np.array([0, 0, width, height]), augmented.boxes)
    instances = Instances((height, width))
    boxes = Boxes(torch.from_numpy(augmented.boxes[kept]))
    boxes.clip((height, width))
    instances.gt_boxes = boxes
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)[torch.from_numpy(kept)]
    return utils.filter_empty_instances(instances)


def _contains_center(patches: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether patches (..., 4) contain the centers of boxes (..., 4)."""
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    return ((centers >= patches[..., :2]) & (centers <= patches[..., 2:])).all(axis=-1)


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of (..., 4) boxes, which are broadcast; the first ones have area."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    inner = (high - low).clip(min=0).prod(axis=-1)
    areas = [(x[..., 2:] - x[..., :2]).prod(axis=-1) for x in (first, second)]
    return inner / (areas[0] + areas[1] - inner)

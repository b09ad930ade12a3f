"""The pairs of detectors that are measured, and the random images they are measured on."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from distill.engine import build_config

__all__ = ["PAIRS", "Pair"]


@dataclass(frozen=True)
class Pair:
    """A student under its teacher, and the size of the step.

    Attributes:
        config_file: the student's config, relative to the working directory.
        image_size: height and width of the images in pixels.
        batch_size: images of a step.
        box_size: smallest and largest side of the objects in pixels.
        boxes_per_image: objects in each image.
        overrides: KEY VALUE overrides of the config.
    """

    config_file: str
    image_size: int
    batch_size: int
    box_size: tuple[int, int]
    boxes_per_image: int
    overrides: tuple[str, ...] = ()

    def config(self, device: str) -> CfgNode:
        """The config on a device, with both detectors at random weights.

        Args:
            device: "cpu" or a CUDA device.

        Raises:
            ValueError, FileNotFoundError: if the config or an override is wrong.
        """
        random_weights = ["MODEL.WEIGHTS", "", "DISTILL.TEACHER.WEIGHTS", ""]
        allowed = ["DISTILL.TEACHER.ALLOW_RANDOM", True]
        opts = [*random_weights, *allowed, "MODEL.DEVICE", device, *self.overrides]
        args = argparse.Namespace(
            config_file=self.config_file, opts=opts, num_gpus=int(device != "cpu")
        )
        return build_config(args)

    def batch(self, num_classes: int, seed: int = 0) -> list[dict[str, Any]]:
        """Random images with random boxes, in Detectron2's format.

        Args:
            num_classes: labels are drawn from 0 to num_classes - 1.
            seed: the same seed gives the same batch.
        """
        generator = torch.Generator().manual_seed(seed)
        size, count = self.image_size, self.boxes_per_image
        low, high = (min(side, size) for side in self.box_size)
        batch = []
        for _ in range(self.batch_size):
            sides = low + torch.rand(count, 2, generator=generator) * (high - low)
            corners = torch.rand(count, 2, generator=generator) * (size - sides)
            instances = Instances((size, size))
            instances.gt_boxes = Boxes(torch.cat([corners, corners + sides], dim=1))
            instances.gt_classes = torch.randint(num_classes, (count,), generator=generator)
            pixels = torch.randint(256, (3, size, size), dtype=torch.uint8, generator=generator)
            batch.append({"image": pixels, "instances": instances, "height": size, "width": size})
        return batch


_CONFIGS = "projects/TADF/configs"

PAIRS = {
    "digits": Pair(f"{_CONFIGS}/digits_faster_rcnn.yaml", 96, 16, (24, 52), 3),
    "r50": Pair(f"{_CONFIGS}/coco_faster_rcnn_R_50_FPN_1x.yaml", 256, 2, (32, 128), 7),
}

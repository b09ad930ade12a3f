"""The pairs of detectors that are measured, and the random images they are measured on."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from distill.engine import build_config

__all__ = ["PAIRS", "UNDISTILLED", "Pair"]


# The name of a step of the student beside which the teacher's head runs, though nothing is
# compared: what methods for dense heads cost is measured against it.
UNDISTILLED = "undistilled"

# Beside the distilled variants of a pair: a training step of the student alone, and the teacher's
# inference, whole and up to its feature maps.
_COMMON: dict[str, tuple[Any, ...]] = {
    "student": ("DISTILL.METHODS", ()),
    "teacher": (),
    "teacher_backbone": (),
}


@dataclass(frozen=True)
class Pair:
    """A student under its teacher, how it is distilled, and the size of the step.

    Attributes:
        config_file: the student's config, relative to the working directory.
        image_size: height and width of the images in pixels.
        batch_size: images of a step.
        box_size: smallest and largest side of the objects in pixels.
        boxes_per_image: objects in each image.
        distilled: the distilled variants by name, with their KEY VALUE overrides of the config.
        reference: the distilled variant that the others are compared with, if any.
        rounds: measured rounds, unless asked otherwise, that suit the length of a step.
        memory: whether peak memory is measured, unless asked otherwise.
        overrides: KEY VALUE overrides of the config for all variants.
    """

    config_file: str
    image_size: tuple[int, int]
    batch_size: int
    box_size: tuple[int, int]
    boxes_per_image: int
    distilled: Mapping[str, tuple[Any, ...]]
    reference: str | None = None
    rounds: int = 7
    memory: bool = True
    overrides: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """What is measured: student, teacher, teacher_backbone, and the distilled variants."""
        return (*_COMMON, *self.distilled)

    def config(self, variant: str, device: str) -> CfgNode:
        """The config of a variant on a device, with both detectors at random weights.

        Args:
            variant: one of `variants`.
            device: "cpu" or a CUDA device.

        Raises:
            ValueError, FileNotFoundError: if the config or an override is wrong.
        """
        random_weights = ["MODEL.WEIGHTS", "", "DISTILL.TEACHER.WEIGHTS", ""]
        allowed = ["DISTILL.TEACHER.ALLOW_RANDOM", True]
        # Every step tells what its methods saw.
        opts = [*random_weights, *allowed, "DISTILL.LOG_PERIOD", 1, "MODEL.DEVICE", device]
        opts += [*self.overrides, *{**_COMMON, **self.distilled}[variant]]
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
        height, width = size
        low, high = (min(side, *size) for side in self.box_size)
        batch = []
        for _ in range(self.batch_size):
            sides = low + torch.rand(count, 2, generator=generator) * (high - low)
            room = torch.tensor([width, height]) - sides
            corners = torch.rand(count, 2, generator=generator) * room
            instances = Instances(size)
            instances.gt_boxes = Boxes(torch.cat([corners, corners + sides], dim=1))
            instances.gt_classes = torch.randint(num_classes, (count,), generator=generator)
            pixels = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)
            batch.append(
                {"image": pixels, "instances": instances, "height": height, "width": width}
            )
        return batch


_TADF: dict[str, tuple[Any, ...]] = {
    # The method's default adapters, then the small ones, whichever the config names.
    "distilled": ("DISTILL.TADF.ADAPTER", "conv3x3"),
    "distilled_conv1x1": ("DISTILL.TADF.ADAPTER", "conv1x1"),
}
_TADF_CONFIGS = "projects/TADF/configs"

_IDADET: dict[str, tuple[Any, ...]] = {
    # Plain imitation of the neck, then the method with its defaults and with what is cheaper.
    "hint": ("DISTILL.IDaDet.SELECTION", "everywhere", "DISTILL.IDaDet.LOSS", "l2"),
    "idadet": (),
    "idadet_assigned": ("DISTILL.IDaDet.POOL_LEVELS", "assigned"),
    "idadet_mask": ("DISTILL.IDaDet.SUPPORT", "mask"),
}
_UNFILTERED: tuple[str, ...] = (
    *("DISTILL.IDaDet.OBJECTNESS_THRESHOLD", "0.0"),
    *("DISTILL.IDaDet.NMS_THRESHOLD", "0.0"),
    *("DISTILL.IDaDet.JOINT_NMS_THRESHOLD", "0.0"),
)
_IDADET_CONFIGS = "projects/IDaDet/configs"

_RETINANET: dict[str, tuple[Any, ...]] = {
    UNDISTILLED: (),
    "adl": (),
    "adl_paper": ("DISTILL.ADL.FORM", "paper"),
    "bckd": ("DISTILL.METHODS", ("BCKD",)),
}
_GFL: dict[str, tuple[Any, ...]] = {
    UNDISTILLED: (),
    "bckd": (),
    "ld": ("DISTILL.METHODS", ("LD",)),
    "adl": ("DISTILL.METHODS", ("ADL",)),
}

# The sizes of a step, for digits and for small images of everyday objects.
_digits = functools.partial(
    Pair, image_size=(96, 96), batch_size=16, box_size=(24, 52), boxes_per_image=3
)
_objects = functools.partial(
    Pair, image_size=(256, 256), batch_size=2, box_size=(32, 128), boxes_per_image=7
)

PAIRS = {
    "digits": _digits(f"{_TADF_CONFIGS}/digits_faster_rcnn.yaml", distilled=_TADF),
    "r50": _objects(f"{_TADF_CONFIGS}/coco_faster_rcnn_R_50_FPN_1x.yaml", distilled=_TADF),
    "retinanet": _objects(
        "projects/ADL/configs/coco_retinanet_R_50.yaml", distilled=_RETINANET, reference=UNDISTILLED
    ),
    "gfl": _objects(
        "projects/BCKD/configs/coco_gfl_R_50.yaml", distilled=_GFL, reference=UNDISTILLED
    ),
    "digits_idadet": _digits(
        f"{_IDADET_CONFIGS}/digits_faster_rcnn_bir18.yaml", distilled=_IDADET, reference="hint"
    ),
    # The size of images and the number of proposals for which the paper's setting asks.
    "idadet": Pair(
        f"{_IDADET_CONFIGS}/voc_faster_rcnn_bir18.yaml",
        image_size=(600, 1000),
        batch_size=2,
        box_size=(60, 400),
        boxes_per_image=5,
        distilled=_IDADET,
        reference="hint",
        rounds=3,
        memory=False,
        # All 600 proposals, which the recipe's filters would thin out.
        overrides=_UNFILTERED,
    ),
}

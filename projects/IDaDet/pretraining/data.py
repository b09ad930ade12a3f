"""Images in folders by class, for training and for evaluation."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from distill.data.image_files import UnreadableImage, read_image
from distill.data.loader import TrainLoader
from distill.utils.wording import some_of

__all__ = ["ImageMapper", "build_test_loader", "build_train_loader", "list_images"]

Record = dict[str, Any]

_logger = logging.getLogger(__name__)


class ImageMapper:
    """Reads an image and crops it: at random for training, from the center for evaluation.

    Of an image that can't be read, it warns once. Training goes on with the next one instead; an
    evaluation counts it as misclassified, so that damage never raises an accuracy.
    """

    def __init__(self, cfg: CfgNode, is_train: bool) -> None:
        """Builds the augmentation.

        Args:
            cfg: the config; INPUT.FORMAT, INPUT.RANDOM_FLIP and PRETRAIN are read.
            is_train: for training.

        Raises:
            ValueError: the augmentation is unknown or the crops are larger than the images.
        """
        self.format = cfg.INPUT.FORMAT
        self.is_train = is_train
        self.size = cfg.PRETRAIN.CROP_SIZE
        self.transform = v2.Compose(_training_crop(cfg) if is_train else _central_crop(cfg))
        self._unreadable: set[str] = set()

    def __call__(self, record: Record) -> Record | None:
        """Makes a model input.

        Args:
            record: ``file_name`` and ``label``.

        Returns:
            The record with ``image``, (3, size, size) uint8, whose label is -1 where the image of
            an evaluation can't be read; None where one for training can't.
        """
        try:
            pixels = np.array(read_image(record["file_name"], self.format))
        except UnreadableImage as error:
            self._warn(error)
            if self.is_train:
                return None
            return {**record, "label": -1, "image": np.zeros((3, self.size, self.size), np.uint8)}
        image = self.transform(torch.from_numpy(pixels).permute(2, 0, 1))
        # No tensor: between processes each one of a large batch would cost a file descriptor.
        return {**record, "image": image.numpy()}

    def _warn(self, error: UnreadableImage) -> None:
        if error.path not in self._unreadable:
            self._unreadable.add(error.path)
            effect = "left out" if self.is_train else "counted as misclassified"
            _logger.warning("%s can't be read (%s) and is %s.", error.path, error.reason, effect)


def list_images(root: str, split: str) -> tuple[list[str], list[Record]]:
    """Lists a folder of images by class.

    Args:
        root: the folder that holds the splits.
        split: ``train`` or ``val``.

    Returns:
        The names of the classes in order, and one record an image: ``file_name`` and ``label``,
        the index of its class.

    Raises:
        FileNotFoundError: one sentence, if a folder is missing or a class has no image.
    """
    folder = os.path.join(root, split)
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"PRETRAIN.DATA (--data) needs the folder {folder} with one folder of images per "
            "class, which does not exist: correct the path."
        )
    try:
        images = ImageFolder(folder)
    except FileNotFoundError as error:
        reason = str(error).partition(". ")[0].rstrip(".")
        raise FileNotFoundError(
            f"{folder} is not a folder of images by class ({reason}): every class needs a folder "
            "with at least one image."
        ) from error
    return images.classes, [{"file_name": name, "label": label} for name, label in images.samples]


def build_train_loader(cfg: CfgNode, *, seed: int) -> TrainLoader:
    """Builds the training loader for PRETRAIN.DATA, and checks the folder for evaluation too.

    Args:
        cfg: the config; PRETRAIN, INPUT, DATALOADER.NUM_WORKERS and SOLVER.IMS_PER_BATCH are read.
        seed: the run seed, the same on all ranks.

    Raises:
        ValueError, FileNotFoundError: one sentence, if folders or keys do not fit.
    """
    batch_size = _images_per_rank(cfg)
    classes, records = list_images(cfg.PRETRAIN.DATA, "train")
    test_classes, _ = list_images(cfg.PRETRAIN.DATA, "val")
    if test_classes != classes:
        differing = sorted(set(classes) ^ set(test_classes))
        raise ValueError(
            f"The class folders of {cfg.PRETRAIN.DATA}/train and val differ "
            f"({some_of(differing)} in one only): "
            "both need the same."
        )
    if len(classes) != cfg.PRETRAIN.NUM_CLASSES:
        raise ValueError(
            f"PRETRAIN.NUM_CLASSES is {cfg.PRETRAIN.NUM_CLASSES}, but {cfg.PRETRAIN.DATA}/train "
            f"has {len(classes)} class folders: set it to that."
        )
    ImageMapper(cfg, is_train=False)
    return TrainLoader(
        records,
        ImageMapper(cfg, is_train=True),
        batch_size=batch_size,
        seed=seed,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def build_test_loader(cfg: CfgNode) -> DataLoader:
    """Builds the loader that shows every image of PRETRAIN.DATA/val once, split among ranks.

    Args:
        cfg: the config; see :func:`build_train_loader`.

    Raises:
        ValueError, FileNotFoundError: one sentence, if a folder is missing or keys do not fit.
    """
    _, records = list_images(cfg.PRETRAIN.DATA, "val")
    # The images of a class lie together, and a shard need not have them all.
    dataset = MapDataset(DatasetFromList(records, copy=False), ImageMapper(cfg, is_train=False))
    return DataLoader(
        dataset,
        batch_size=_images_per_rank(cfg),
        sampler=InferenceSampler(len(dataset)),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
    )


def _images_per_rank(cfg: CfgNode) -> int:
    number, world_size = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if number < world_size or number % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {number}, which {world_size} processes can't share equally: "
            "set it to a multiple of their number."
        )
    return number // world_size


def _training_crop(cfg: CfgNode) -> list[v2.Transform]:
    crop = v2.RandomResizedCrop(
        cfg.PRETRAIN.CROP_SIZE, scale=tuple(cfg.PRETRAIN.CROP_SCALE), antialias=True
    )
    flip = cfg.INPUT.RANDOM_FLIP
    if flip not in ("none", "horizontal"):
        raise ValueError(f"INPUT.RANDOM_FLIP {flip!r} is unknown here: use horizontal or none.")
    return [crop] if flip == "none" else [crop, v2.RandomHorizontalFlip()]


def _central_crop(cfg: CfgNode) -> list[v2.Transform]:
    size, shorter_side = cfg.PRETRAIN.CROP_SIZE, cfg.PRETRAIN.RESIZE
    if shorter_side < size:
        raise ValueError(
            f"PRETRAIN.RESIZE {shorter_side} is less than PRETRAIN.CROP_SIZE {size}: the crop "
            "needs a larger image."
        )
    return [v2.Resize(shorter_side, antialias=True), v2.CenterCrop(size)]


def _as_list(batch: list[Record]) -> list[Record]:
    return batch

"""Loaders; the training one gives the same batches whatever the workers, from any iteration on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_test_loader
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from distill.data.failures import Failure, ReadableBatches, mapped, with_failures
from distill.data.mapper import PseudoMapper, Record
from distill.data.records import evaluation_records, repeat_factors, training_records
from distill.data.sampler import ResumableBatchSampler
from distill.data.ssd_augmentation import build_ssd_mapper
from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import one_of
from distill.utils.seeding import Stream, derive_seed, seeded
from distill.utils.trainer_keys import only_trainer_acts_on

__all__ = [
    "Mapper",
    "TrainLoader",
    "as_list",
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "images_per_rank",
]

Mapper = Callable[[Record], "Record | None"]

# Images tried in place of one that the mapper rejects.
_MAX_TRIES = 100


@defines_keys
def _add_augmentation_key(cfg: CfgNode) -> None:
    # How images are augmented and resized: default (Detectron2's INPUT keys), or ssd (distortion of
    # colors, expansion, crop by IoU, MODEL.SSD.IMAGE_SIZE; a plain resize for tests).
    cfg.INPUT.AUGMENTATION = "default"
    limit(cfg.INPUT, AUGMENTATION=one_of("default", "ssd"))
    only_trainer_acts_on({"INPUT.AUGMENTATION": "default"})


class _SeededDataset(Dataset):
    """Maps (position, index) to a sample whose augmentation depends on the position alone."""

    def __init__(
        self, records: Sequence[Record], mapper: Mapper, seed: int, skip_unreadable: bool
    ) -> None:
        self.records = records
        self.mapper = mapper
        self.seed = seed
        self.skip_unreadable = skip_unreadable

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: tuple[int, int]) -> Record | Failure:
        position, index = item
        failures: list[Failure] = []
        with seeded(derive_seed(self.seed, Stream.SAMPLE, position)):
            for shift in range(min(_MAX_TRIES, len(self))):
                sample = mapped(self.mapper, self.records[(index + shift) % len(self)])
                if isinstance(sample, Failure) and self.skip_unreadable:
                    failures.append(sample)
                elif sample is not None:
                    return with_failures(sample, failures)
        raise ValueError(
            f"The dataset mapper rejected {_MAX_TRIES} images in a row, from number {index} on: "
            "check the annotations of DATASETS.TRAIN (or of DATASETS.UNLABELED), the files of "
            "its images and the augmentation under INPUT."
        )


class TrainLoader:
    """Iterates over batches for ever, from the iteration given to :meth:`seek`.

    The batches depend on the seed, the number of ranks and the batch size; neither on the number
    of workers nor on the state of any global generator.
    """

    def __init__(
        self,
        records: Sequence[Record],
        mapper: Mapper,
        *,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        group_by_aspect_ratio: bool = False,
        repeat_factors: torch.Tensor | None = None,
        skip_unreadable: bool = False,
    ) -> None:
        """Starts at iteration 0.

        Args:
            records: the dataset, in Detectron2's format, one dict an image.
            mapper: makes a model input of a record, or returns None to have the next image instead.
            batch_size: images a batch, on this rank.
            seed: the run seed.
            num_workers: processes that load ahead; 0 loads in this one.
            group_by_aspect_ratio: put wide and tall images into different batches.
            repeat_factors: see :class:`ResumableBatchSampler`.
            skip_unreadable: put the next image in place of one that can't be read; else the
                iterator raises `UnreadableImage`.
        """
        self.groups = _aspect_groups(records) if group_by_aspect_ratio else None
        # Detectron2's list keeps the records as one buffer, which workers share after a fork.
        self.records = DatasetFromList(records) if isinstance(records, list) else records
        self.mapper = mapper
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.repeat_factors = repeat_factors
        self.skip_unreadable = skip_unreadable
        self.seed = seed
        self.iteration = 0

    def seek(self, seed: int, iteration: int) -> None:
        """Sets the run seed and the iteration at which the next iterator starts."""
        self.seed = seed
        self.iteration = iteration

    def __iter__(self) -> Iterator[list[Record]]:
        """Returns an iterator that reads seed and iteration when its first batch is asked for."""
        # A generator: Detectron2 0.6 calls iter() before a checkpoint tells where to start.
        loader = DataLoader(
            self.dataset(),
            batch_sampler=self.sampler(comm.get_rank(), comm.get_world_size()),
            num_workers=self.num_workers,
            collate_fn=as_list,
        )
        effect = "another one is in its place"
        yield from ReadableBatches(loader, skip=self.skip_unreadable, effect=effect)

    def dataset(self) -> Dataset:
        """The samples by (position, index), augmented as seed and position say."""
        return _SeededDataset(self.records, self.mapper, self.seed, self.skip_unreadable)

    def sampler(self, rank: int = 0, world_size: int = 1) -> ResumableBatchSampler:
        """The batches of (position, index) from the iteration on, of one of several ranks."""
        return ResumableBatchSampler(
            len(self.records),
            self.batch_size,
            seed=self.seed,
            start_batch=self.iteration,
            rank=rank,
            world_size=world_size,
            groups=self.groups,
            repeat_factors=self.repeat_factors,
        )


def build_train_loader(cfg: CfgNode, *, seed: int, mapper: Mapper | None = None) -> TrainLoader:
    """Builds the training loader that a Detectron2 config describes.

    Args:
        cfg: the config; DATASETS, DATALOADER, INPUT and SOLVER.IMS_PER_BATCH are read.
        seed: the run seed, the same on all ranks.
        mapper: replaces that of :func:`build_mapper`.

    Raises:
        ValueError: if there is no training image, the batch can't be split among the ranks, or
            the sampler or the augmentation is unknown.
    """
    records = training_records(cfg)
    batch_size = images_per_rank(cfg)
    factors = repeat_factors(cfg, records)
    return TrainLoader(
        records,
        build_mapper(cfg, is_train=True) if mapper is None else mapper,
        batch_size=batch_size,
        seed=seed,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        group_by_aspect_ratio=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        repeat_factors=factors,
        skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
    )


def images_per_rank(cfg: CfgNode) -> int:
    """Each rank's share of SOLVER.IMS_PER_BATCH.

    Args:
        cfg: the config.

    Raises:
        ValueError: if the ranks can't share it equally.
    """
    world_size = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH < world_size or cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {world_size} processes "
            "can't share equally: set it to a multiple of their number."
        )
    return cfg.SOLVER.IMS_PER_BATCH // world_size


def build_test_loader(cfg: CfgNode, dataset_name: str) -> ReadableBatches:
    """Builds Detectron2's loader of one of DATASETS.TEST, with the config's own resizing.

    With DATALOADER.SKIP_UNREADABLE images that can't be read do not reach the detector: evaluators
    count them as images in which nothing is found, so that damage never raises an AP.

    Args:
        cfg: the config; DATALOADER and INPUT are read.
        dataset_name: a registered dataset.

    Raises:
        ValueError, FileNotFoundError: one sentence, if images can't be used and are not to be
            skipped.
    """
    mapper = build_mapper(cfg, is_train=False)
    loader = build_detection_test_loader(
        evaluation_records(cfg, dataset_name),
        mapper=functools.partial(mapped, mapper),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    effect = "it counts as an image in which nothing is found"
    return ReadableBatches(loader, skip=cfg.DATALOADER.SKIP_UNREADABLE, effect=effect)


def build_mapper(cfg: CfgNode, *, is_train: bool) -> Mapper:
    """Builds what makes model inputs of records: the reader, augmentation and resizing.

    Args:
        cfg: the config; INPUT is read.
        is_train: augment, and keep the annotations.

    Raises:
        ValueError: if INPUT.AUGMENTATION is unknown or does not suit the config.
    """
    name = cfg.INPUT.AUGMENTATION
    if name == "default":
        return PseudoMapper(cfg, is_train=is_train)
    if name == "ssd":
        return build_ssd_mapper(cfg, is_train=is_train)
    raise ValueError(f"INPUT.AUGMENTATION {name!r} is unknown: use default or ssd.")


def _aspect_groups(records: Sequence[Record]) -> list[int]:
    try:
        return [int(record["width"] > record["height"]) for record in records]
    except KeyError as error:
        raise ValueError(
            f"A record of DATASETS.TRAIN has no {error}: add it to the dataset, or set "
            "DATALOADER.ASPECT_RATIO_GROUPING to False."
        ) from error


def as_list(batch: list[Record]) -> list[Record]:
    """Leaves a batch the list that Detectron2's models take."""
    return batch

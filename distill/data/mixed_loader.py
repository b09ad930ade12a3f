"""Labeled and unlabeled images in one training loader."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from distill.data.failures import ReadableBatches
from distill.data.loader import (
    Mapper,
    TrainLoader,
    as_list,
    build_mapper,
    images_per_rank,
)
from distill.data.mapper import Record
from distill.data.records import repeat_factors, training_records
from distill.data.sampler import MixedBatchSampler
from distill.utils.seeding import Stream, derive_seed

__all__ = ["MixedTrainLoader", "build_mixed_loader"]


class MixedTrainLoader:
    """Iterates over batches of two streams for ever, from the iteration given to :meth:`seek`.

    Each stream shows every image once an epoch (repeat factors aside), in an order and with an
    augmentation of its own. The images of an iteration depend on the seed and the batch size alone;
    the ranks share them.
    """

    def __init__(
        self,
        labeled: TrainLoader,
        other: TrainLoader,
        *,
        alternate: bool,
        seed: int,
        num_workers: int = 0,
    ) -> None:
        """Starts at iteration 0.

        Args:
            labeled: the labeled images; its batch size is that of all ranks together.
            other: the unlabeled ones, or both kinds; likewise.
            alternate: see :class:`MixedBatchSampler`.
            seed: the run seed.
            num_workers: processes that load ahead; 0 loads in this one.
        """
        self.streams = labeled, other
        self.alternate = alternate
        self.num_workers = num_workers
        self.seek(seed, 0)

    def seek(self, seed: int, iteration: int) -> None:
        """Sets the run seed and the iteration at which the next iterator starts."""
        self.seed = seed
        self.iteration = iteration
        labeled, other = self.streams
        turns = ((iteration + 1) // 2, iteration // 2) if self.alternate else (iteration,) * 2
        labeled.seek(seed, turns[0])
        # Two streams of equally many images would otherwise have the same order.
        other.seek(derive_seed(seed, Stream.UNLABELED), turns[1])

    def __iter__(self) -> Iterator[list[Record]]:
        """Returns an iterator that reads seed and iteration when its first batch is asked for."""
        labeled, other = self.streams
        sampler = MixedBatchSampler(
            (labeled.sampler(), other.sampler()),
            alternate=self.alternate,
            turn=self.iteration % 2,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )
        loader = DataLoader(
            _Streams(labeled.dataset(), other.dataset()),
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=as_list,
        )
        skip = labeled.skip_unreadable
        yield from ReadableBatches(loader, skip=skip, effect="another one is in its place")


class _Streams(Dataset):
    """The samples of several datasets by (number of the dataset, position, index)."""

    def __init__(self, *datasets: Dataset) -> None:
        self.datasets = datasets

    def __getitem__(self, item: tuple[int, int, int]) -> Record:
        stream, position, index = item
        return self.datasets[stream][position, index]


def build_mixed_loader(
    cfg: CfgNode, unlabeled: list[Record], *, seed: int, mapper: Mapper | None = None
) -> MixedTrainLoader:
    """Builds the loader of DATASETS.TRAIN and of unlabeled images, as DISTILL.UNLABELED.MIX says.

    DATALOADER.SAMPLER_TRAIN repeats labeled images in the labeled stream. The alternating batches
    are grouped by DATALOADER.ASPECT_RATIO_GROUPING; those of a ratio are not, as both streams would
    have to be at the same shape.

    Args:
        cfg: the config.
        unlabeled: images with "annotations" that are the teacher's.
        seed: the run seed, the same on all ranks.
        mapper: replaces that of the config.

    Raises:
        ValueError: if there is no labeled image, or a batch can't be split.
    """
    node = cfg.DISTILL.UNLABELED
    alternate = node.MIX == "alternate"
    images_per_rank(cfg)
    size = cfg.SOLVER.IMS_PER_BATCH
    shares = (size, size) if alternate else _shares(size, node.LABELED_FRACTION)
    records = training_records(cfg)
    mapper = build_mapper(cfg, is_train=True) if mapper is None else mapper
    grouped = alternate and cfg.DATALOADER.ASPECT_RATIO_GROUPING
    labeled = TrainLoader(
        records,
        mapper,
        batch_size=shares[0],
        seed=seed,
        group_by_aspect_ratio=grouped,
        repeat_factors=repeat_factors(cfg, records),
        skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
    )
    # The labeled records are held once, whichever streams they are in.
    others = DatasetFromList(unlabeled)
    other = TrainLoader(
        ConcatDataset([labeled.records, others]) if alternate else others,
        mapper,
        batch_size=shares[1],
        seed=seed,
        group_by_aspect_ratio=grouped,
        skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
    )
    logging.getLogger(__name__).info(
        "Training on %d labeled and %d unlabeled images.", len(records), len(unlabeled)
    )
    workers = cfg.DATALOADER.NUM_WORKERS
    return MixedTrainLoader(labeled, other, alternate=alternate, seed=seed, num_workers=workers)


def _shares(size: int, fraction: float) -> tuple[int, int]:
    """Labeled and unlabeled images of a batch, at least one of each."""
    labeled = round(size * fraction)
    if not 0 < labeled < size:
        raise ValueError(
            f"DISTILL.UNLABELED.LABELED_FRACTION {fraction} leaves a batch of {size} images "
            "without images of one kind: change it or SOLVER.IMS_PER_BATCH"
        )
    return labeled, size - labeled

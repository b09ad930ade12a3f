"""Batches of dataset indices that can be continued from any iteration."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from distill.utils.seeding import Stream, derive_seed

__all__ = ["MixedBatchSampler", "ResumableBatchSampler"]

Item = tuple[int, int]


class ResumableBatchSampler(Sampler[list[Item]]):
    """An infinite stream of batches, shuffled epoch by epoch and split among ranks.

    Every item is a pair (position, index): the index of a sample in the dataset, and its position
    in the stream that all ranks share, which seeds the sample's augmentation. The stream depends
    on the seed alone; rank r of w takes the positions r, r + w, r + 2w and so on.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        groups: Sequence[int] | None = None,
        repeat_factors: torch.Tensor | None = None,
    ) -> None:
        """Describes the stream.

        Args:
            size: number of samples in the dataset.
            batch_size: samples a batch, on one rank.
            seed: the run seed, the same on all ranks.
            start_batch: number of batches to leave out; they are replayed as indices, without data.
            rank: this process' rank.
            world_size: number of ranks.
            groups: per sample a label; a batch holds samples of one label only. None mixes all.
            repeat_factors: (size,) float tensor, how often a sample comes in an epoch; the fraction
                is rounded at random anew in each epoch. None takes every sample once.

        Raises:
            ValueError: if size or batch_size is not positive.
        """
        if size <= 0 or batch_size <= 0:
            raise ValueError(
                f"A training sampler needs samples and a batch size, not {size} and {batch_size}."
            )
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.start_batch = start_batch
        self.rank = rank
        self.world_size = world_size
        self.groups = groups
        self.repeat_factors = repeat_factors

    def __iter__(self) -> Iterator[list[Item]]:
        """Yields this rank's batches, from ``start_batch`` on, without end."""
        return itertools.islice(self._batches(), self.start_batch, None)

    def _batches(self) -> Iterator[list[Item]]:
        open_batches: dict[int, list[Item]] = defaultdict(list)
        for position, index in itertools.islice(self._stream(), self.rank, None, self.world_size):
            label = 0 if self.groups is None else self.groups[index]
            batch = open_batches[label]
            batch.append((position, index))
            if len(batch) == self.batch_size:
                yield open_batches.pop(label)

    def _stream(self) -> Iterator[Item]:
        epochs = (self._epoch(epoch) for epoch in itertools.count())
        return enumerate(itertools.chain.from_iterable(epochs))

    def _epoch(self, epoch: int) -> list[int]:
        generator = torch.Generator()
        generator.manual_seed(derive_seed(self.seed, Stream.ORDER, epoch))
        if self.repeat_factors is None:
            return torch.randperm(self.size, generator=generator).tolist()
        whole = self.repeat_factors.floor()
        extra = torch.rand(self.size, generator=generator) < self.repeat_factors - whole
        indices = torch.arange(self.size).repeat_interleave((whole + extra).long())
        return indices[torch.randperm(len(indices), generator=generator)].tolist()


class MixedBatchSampler(Sampler[list[tuple[int, int, int]]]):
    """The batches of two streams in turns or side by side, shared out among ranks.

    Every item is (stream, position, index): the number of the stream and one of its items. The
    streams give the batches of all ranks together, of which rank r of w takes the items r, r + w,
    r + 2w and so on; so the images of an iteration are the same whatever the number of ranks.
    """

    def __init__(
        self,
        streams: tuple[ResumableBatchSampler, ResumableBatchSampler],
        *,
        alternate: bool,
        turn: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Describes the mixture.

        Args:
            streams: labeled and other batches, of one rank that is all.
            alternate: whether a batch comes from one stream, strictly in turns, or is made of one
                batch of each.
            turn: the stream whose turn is first, 0 or 1.
            rank: this process' rank.
            world_size: number of ranks.
        """
        self.streams = streams
        self.alternate = alternate
        self.turn = turn
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        """Yields this rank's batches without end."""
        batches = self._in_turns() if self.alternate else self._side_by_side()
        return (batch[self.rank :: self.world_size] for batch in batches)

    def _in_turns(self) -> Iterator[list[tuple[int, int, int]]]:
        streams = [_marked(number, stream) for number, stream in enumerate(self.streams)]
        for stream in itertools.islice(itertools.cycle(streams), self.turn, None):
            yield next(stream)

    def _side_by_side(self) -> Iterator[list[tuple[int, int, int]]]:
        first, second = (_marked(number, stream) for number, stream in enumerate(self.streams))
        return (left + right for left, right in zip(first, second, strict=True))


def _marked(number: int, batches: Iterable[list[Item]]) -> Iterator[list[tuple[int, int, int]]]:
    """Batches whose items say which stream they are of."""
    return ([(number, *item) for item in batch] for batch in batches)

from __future__ import annotations

from itertools import islice

import pytest
import torch

from distill.data.sampler import ResumableBatchSampler


def _batches(number: int, size: int = 10, batch_size: int = 3, **options) -> list:
    options = {"seed": 5, **options}
    return list(islice(ResumableBatchSampler(size, batch_size, **options), number))


def _indices(batches: list) -> list[int]:
    return [index for batch in batches for _, index in batch]


def test_every_sample_comes_once_an_epoch_and_epochs_differ():
    indices = _indices(_batches(10))
    epochs = [indices[i : i + 10] for i in range(0, 30, 10)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_depends_on_the_seed_alone():
    assert _batches(4) == _batches(4)
    assert _batches(4) != _batches(4, seed=6)


def test_the_epochs_of_neighboring_seeds_do_not_repeat_each_other():
    second_epoch = _indices(_batches(20, batch_size=1))[10:]
    first_epoch_of_next_seed = _indices(_batches(10, batch_size=1, seed=6))
    assert second_epoch != first_epoch_of_next_seed


def test_ranks_share_the_stream_without_overlap():
    alone = [item for batch in _batches(4, batch_size=6) for item in batch]
    ranks = [
        [item for batch in _batches(4, world_size=2, rank=rank) for item in batch]
        for rank in (0, 1)
    ]
    assert not set(ranks[0]) & set(ranks[1])
    assert sorted(ranks[0] + ranks[1]) == alone


@pytest.mark.parametrize("groups", [None, [0, 1, 1, 0, 1, 1, 0, 1, 1, 1]])
def test_starting_at_a_batch_equals_skipping_those_before(groups):
    options = {"groups": groups, "world_size": 2, "rank": 1}
    assert _batches(5, start_batch=7, **options) == _batches(12, **options)[7:]


def test_a_batch_holds_one_group_and_no_sample_is_lost():
    groups = [0, 1, 1, 0, 1, 1, 0, 1, 1, 1]
    batches = _batches(40, groups=groups)
    assert all(len({groups[index] for _, index in batch}) == 1 for batch in batches)
    positions = sorted(position for batch in batches for position, _ in batch)
    # At most one unfinished batch of each group is still waiting.
    assert len(set(range(positions[-1] + 1)) - set(positions)) <= 2 * 2


def test_repeat_factors_hold_on_average_and_never_fall_below_their_whole_part():
    factors = torch.tensor([1.0, 2.0, 1.5])
    sampler = ResumableBatchSampler(3, 1, seed=0, repeat_factors=factors)
    epochs = [sampler._epoch(epoch) for epoch in range(400)]
    assert all(epoch.count(0) == 1 and epoch.count(1) == 2 for epoch in epochs)
    assert sum(epoch.count(2) for epoch in epochs) / 400 == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(("size", "batch_size"), [(0, 2), (2, 0)])
def test_nothing_to_sample_is_refused(size, batch_size):
    with pytest.raises(ValueError, match="needs samples and a batch size"):
        ResumableBatchSampler(size, batch_size, seed=0)

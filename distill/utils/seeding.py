"""Seeds derived from one run seed, so that any part of a run can be repeated on its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

__all__ = ["Stream", "derive_seed", "seed_all", "seeded"]


class Stream(IntEnum):
    """Independent uses of the run seed."""

    INIT = 0
    ORDER = 1
    SAMPLE = 2
    STEP = 3
    UNLABELED = 4


def derive_seed(seed: int, stream: Stream, *key: int) -> int:
    """Returns a seed in [0, 2**63) for one use of the run seed.

    Args:
        seed: the run seed, not negative.
        stream: what the result is for.
        key: position within the stream, such as an epoch, or an iteration and a rank.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(int(stream), *key))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_all(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's global generators (every device's)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the CPU's global generators within the context and restores them afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])

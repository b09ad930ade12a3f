"""What every test shares: one thread, seeded generators and a datasets folder of their own."""

from __future__ import annotations

import os
import random
import tempfile

import numpy as np
import pytest
import torch

# pytest-xdist runs several processes on few cores, and sums depend on the number of threads.
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    # Detectron2 reads the variable when it is imported, so a fixture would be too late. Workers of
    # pytest-xdist inherit the folder of their controller, which removes it.
    if "DETECTRON2_DATASETS" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="datasets-")
        os.environ["DETECTRON2_DATASETS"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)

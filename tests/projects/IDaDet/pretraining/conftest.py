"""A folder of images by class, and the config of a small 1-bit detector to pre-train on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from helpers.tiny import rcnn_cfg
from PIL import Image
from pretraining import add_pretrain_config  # noqa: F401 - adds the keys

_SPLITS = {"train": 4, "val": 2}
_SHORT = {
    "MODEL__BACKBONE__NAME": "build_binary_slim_fpn_backbone",
    "PRETRAIN__NUM_CLASSES": 3,
    "PRETRAIN__CROP_SIZE": 16,
    "PRETRAIN__RESIZE": 16,
    "DATALOADER__NUM_WORKERS": 0,
    "SOLVER__IMS_PER_BATCH": 4,
    "SOLVER__OPTIMIZER": "Adam",
    "SOLVER__BASE_LR": 0.01,
    "SOLVER__WARMUP_ITERS": 0,
    "SOLVER__MAX_ITER": 2,
    "SOLVER__LR_SCHEDULER_NAME": "WarmupLinearLR",
    "SOLVER__CHECKPOINT_PERIOD": 1,
    "SEED": 3,
}

MakeConfig = Callable[..., CfgNode]


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Noise of 20x24 pixels: three classes of four images for training and two for evaluation."""
    rng = np.random.default_rng(0)
    for split, number in _SPLITS.items():
        for name in "abc":
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "images"


@pytest.fixture
def make_config(image_folder: Path, tmp_path: Path) -> MakeConfig:
    """Makes a config of changes such as SEED=1."""

    def make(**changes: Any) -> CfgNode:
        places = {"PRETRAIN__DATA": str(image_folder), "OUTPUT_DIR": str(tmp_path / "run")}
        return rcnn_cfg(**{**_SHORT, **places, **changes})

    return make

"""What every test shares: one thread, seeded generators and a datasets folder of their own."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# pytest-xdist runs several processes on few cores, and sums depend on the number of threads.
torch.set_num_threads(1)

# For tests/helpers and the code of projects, in processes that tests start too.
sys.path.insert(0, str(Path(__file__).parent))


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


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    # A test that sets up a run in this process changes what the next one would find in the log.
    loggers = [logging.getLogger(name) for name in ("distill", "detectron2", "fvcore")]
    before = [(x, x.level, x.propagate, list(x.handlers)) for x in loggers]
    yield
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


_TINY_DETECTOR = """
MODEL:
  DEVICE: "cpu"
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHTS: ""
  MASK_ON: False
  BACKBONE: {NAME: "build_slim_fpn_backbone", FREEZE_AT: 0}
  SLIM: {STEM_CHANNELS: 4, STAGE_CHANNELS: [8, 12, 16]}
  FPN: {IN_FEATURES: ["res2", "res3", "res4"], OUT_CHANNELS: 8, NORM: "BN"}
  ANCHOR_GENERATOR: {SIZES: [[20], [30], [42]]}
  RPN:
    {IN_FEATURES: ["p2", "p3", "p4"], BATCH_SIZE_PER_IMAGE: 16, PRE_NMS_TOPK_TRAIN: 20,
     PRE_NMS_TOPK_TEST: 20, POST_NMS_TOPK_TRAIN: 10, POST_NMS_TOPK_TEST: 10}
  ROI_HEADS:
    {NAME: "StandardROIHeads", IN_FEATURES: ["p2", "p3"], BATCH_SIZE_PER_IMAGE: 8,
     SCORE_THRESH_TEST: 0.0}
  ROI_BOX_HEAD: {NAME: "FastRCNNConvFCHead", NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 3}
DATASETS: {TRAIN: ["coco_2017_train"], TEST: ["coco_2017_val_100"]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {MIN_SIZE_TRAIN: [48, 64], MIN_SIZE_TEST: 64}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.002, OPTIMIZER: "AdamW", STEPS: [], WARMUP_ITERS: 0}
SEED: 3
VERSION: 2
"""


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A datasets folder with a few images of noise as COCO, and ``tiny.yaml``, which trains on it.

    Another process finds them as coco_2017_train and coco_2017_val_100 where DETECTRON2_DATASETS
    is this folder; in this one they are tiny_train and tiny_test.
    """
    from detectron2.data.datasets import register_coco_instances
    from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

    root = tmp_path_factory.mktemp("tiny")
    (root / "tiny.yaml").write_text(_TINY_DETECTOR)
    for name, images, truth, number in (
        ("tiny_train", "train2017", "instances_train2017", 9),
        ("tiny_test", "val2017", "instances_val2017_100", 3),
    ):
        folder = root / "coco" / images
        file = root / "coco" / "annotations" / f"{truth}.json"
        _write_noise_as_coco(folder, file, number)
        register_coco_instances(name, _get_builtin_metadata("coco"), str(file), str(folder))
    return root


def _write_noise_as_coco(folder: Path, file: Path, number: int) -> None:
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

    folder.mkdir(parents=True)
    file.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(number)
    coco = {
        "info": {},
        "images": [],
        "annotations": [],
        "categories": [x for x in COCO_CATEGORIES if x["isthing"]],
    }
    for i in range(1, number + 1):
        width, height = (64, 48) if i % 3 else (48, 64)
        image = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        image.save(folder / f"{i}.png")
        record = {"id": i, "file_name": f"{i}.png", "width": width, "height": height}
        coco["images"].append(record)
        for j in range(2):
            box = [int(x) for x in (*rng.integers(0, 16, 2), *rng.integers(16, 30, 2))]
            coco["annotations"].append(
                {
                    "id": 2 * i + j,
                    "image_id": i,
                    "category_id": 1 + j,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    file.write_text(json.dumps(coco))

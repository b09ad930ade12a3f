"""What tests of labeling share: a tiny teacher, folders of noise, jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from distill.labeling.job import LabelingJob, plan_job
from helpers import tiny

CLASSES = ("ant", "bee", "cow")


def teacher(folder: Path, cfg: CfgNode | None = None) -> dict[str, str]:
    """A detector at random weights; its config is teacher.yaml."""
    small = {"INPUT__MIN_SIZE_TEST": 48, "INPUT__MAX_SIZE_TEST": 64}
    cfg = tiny.changed(cfg or tiny.rcnn_cfg(), **small, DATALOADER__NUM_WORKERS=0)
    files = tiny.save_teacher(folder, cfg).values()
    return dict(zip(("config_file", "weights"), files, strict=True))


def write_noise(folder: Path, number: int) -> list[Path]:
    """Images 0.png, 1.png, ... of differing sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(number)]
    rng = np.random.default_rng(number)
    for index, path in enumerate(paths):
        pixels = rng.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def plan(folder: Path, **changes: Any) -> LabelingJob:
    """A job on folder/images, into folder/out, with the teacher of folder/teacher."""
    given = {
        "output": str(folder / "out"),
        "config_file": str(folder / "teacher" / "teacher.yaml"),
        "weights": str(folder / "teacher" / "teacher.pth"),
        "dataset": None,
        "images": str(folder / "images"),
    }
    return plan_job(**{**given, **changes})

"""Short trainings on the images of noise, and what they leave."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from detectron2.config import CfgNode

from distill.engine import Trainer, build_config, training_parser

TINY_DATA = ("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)")


def tiny_config(root: Path, output: Path, *options: str) -> CfgNode:
    """The config of the folder of ``tiny_coco``, for a run directory."""
    arguments = ["--config-file", str(root / "tiny.yaml"), *TINY_DATA, *options]
    return build_config(training_parser().parse_args([*arguments, "OUTPUT_DIR", str(output)]))


def train(cfg: CfgNode, resume: bool = False) -> Trainer:
    """Trains what a config describes."""
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def weights(folder: Path, name: str = "model_final") -> dict[str, torch.Tensor]:
    """Those of a run's checkpoint."""
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]


def assert_same(left: dict, right: dict) -> None:
    """Whether all tensors are equal, bit for bit."""
    assert left.keys() == right.keys()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []

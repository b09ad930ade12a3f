"""A run over images of which one is cut short behind its header, as users run it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import tiny, tiny_labeling

from distill.engine import Trainer, TrainingError

NAMES = ("whole_images", "with_a_cut_image")


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Path]:
    """Two datasets of four images; the third of the second one is cut short."""
    one = {"bbox": [4, 5, 40, 36], "bbox_mode": 0, "category_id": 1, "iscrowd": 0}
    for name in NAMES:
        paths = tiny_labeling.write_noise(tmp_path / name, 4)
        records = [
            {"file_name": str(x), "image_id": i, "width": 60, "height": 40 + i}
            | {"annotations": [one]}
            for i, x in enumerate(paths)
        ]
        DatasetCatalog.register(name, lambda records=records: records)
        names = ["ant", "bee", "cow"]
        MetadataCatalog.get(name).set(thing_classes=names, evaluator_type="coco")
    paths[2].write_bytes(paths[2].read_bytes()[:3000])
    yield paths[2]
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def run(output: Path, train: str, test: str = "", resume: bool = False, **changes) -> None:
    cfg = tiny.rcnn_cfg(
        DATASETS__TRAIN=(train,),
        DATASETS__TEST=(test,) if test else (),
        INPUT__MIN_SIZE_TRAIN=(40, 48),
        INPUT__MIN_SIZE_TEST=40,
        SOLVER__IMS_PER_BATCH=1,
        # A rate that does not depend on MAX_ITER.
        SOLVER__WARMUP_ITERS=0,
        SEED=2,
        OUTPUT_DIR=str(output),
        **{"SOLVER__MAX_ITER": 4, "DATALOADER__NUM_WORKERS": 0, **changes},
    )
    os.makedirs(output, exist_ok=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_image_is_named_with_the_iteration_that_draws_it(
    cut: Path, tmp_path: Path, workers: int
) -> None:
    with pytest.raises(TrainingError) as caught:
        run(tmp_path / "out", NAMES[1], DATALOADER__NUM_WORKERS=workers)
    start = f"Iteration 2 failed: The image {cut} can't be used (image file is truncated"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("or set DATALOADER.SKIP_UNREADABLE to True.")


def test_a_test_image_is_named_too(cut: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=f"The image {cut} can't be used"):
        run(tmp_path / "out", NAMES[0], NAMES[1])


def test_a_run_without_the_image_resumes_to_the_same_weights_with_other_workers(
    cut: Path, tmp_path: Path
) -> None:
    skip = {"DATALOADER__SKIP_UNREADABLE": True, "SOLVER__CHECKPOINT_PERIOD": 2}
    run(tmp_path / "whole", NAMES[1], NAMES[1], **skip)
    run(tmp_path / "halved", NAMES[1], SOLVER__MAX_ITER=2, **skip)
    run(tmp_path / "halved", NAMES[1], resume=True, DATALOADER__NUM_WORKERS=1, **skip)
    whole, halved = (
        torch.load(tmp_path / x / "model_final.pth", weights_only=True)["model"]
        for x in ("whole", "halved")
    )
    assert tiny.equal(whole, halved)

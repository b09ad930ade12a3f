"""Images a second of `pseudo_label.py generate` beside Detectron2's own inference."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image
from torch import nn

from benchmark.measure import CLOCKS, time_rounds
from distill.build import read_config
from distill.data.loader import build_mapper
from distill.labeling.box_finder import BoxFinder
from distill.labeling.generate import label_images
from distill.labeling.images import ImageListing
from distill.labeling.job import LabelingJob
from distill.labeling.result import write_result
from distill.views.teacher import FrozenTeacher

__all__ = ["LABELING", "format_labeling", "measure_labeling"]

# The benchmark's name.
LABELING = "labeling"
_CONFIG = "configs/digits/faster_rcnn_student.yaml"
_SCORE_FLOOR = 0.05


def measure_labeling(
    *,
    rounds: int | None = None,
    device: str = "cpu",
    clock: str = "wall",
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    num_images: int = 64,
) -> dict[str, Any]:
    """Labels the same images with `generate` and with `inference_on_dataset`, in turns.

    A small detector at random weights, which finds all the boxes it may, on images of noise.
    `generate` includes its shards and the final file, Detectron2 no file at all.

    Args:
        rounds: measured rounds, 7 if None.
        device: "cpu" or a CUDA device.
        clock: see CLOCKS.
        image_size: height and width, (240, 320) if None.
        batch_size: images of a batch, 1 if None; Detectron2 0.6 always takes one.
        num_images: number of images.

    Returns:
        `images_per_second` of both, by the median of the rounds, and `ratio` of the first to the
        second.

    Raises:
        FileNotFoundError: if the working directory is not the repository's root.
    """
    rounds, size = rounds or 7, image_size or (240, 320)
    opts = ["MODEL.DEVICE", device, "MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", min(size)]
    cfg = read_config(_CONFIG, [*opts, "INPUT.MAX_SIZE_TEST", max(size)])
    torch.manual_seed(0)
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).to(device).eval()
    with tempfile.TemporaryDirectory() as folder:
        listing = _write_images(Path(folder, "images"), num_images, size)
        steps = {
            "generate": _generate(cfg, model, listing, Path(folder, "out"), batch_size or 1),
            "inference_on_dataset": _detectron2(cfg, model, listing),
        }
        measured = time_rounds(steps, rounds, CLOCKS[clock])
    speed = {name: num_images / x.median for name, x in measured.items()}
    return {
        "pair": LABELING,
        "config": _CONFIG,
        "images": num_images,
        "image_size": list(size),
        "batch_size": batch_size or 1,
        "rounds": rounds,
        "clock": clock,
        "images_per_second": speed,
        "ratio": speed["generate"] / speed["inference_on_dataset"],
    }


def format_labeling(result: dict[str, Any]) -> str:
    """Words what :func:`measure_labeling` returns."""
    height, width = result["image_size"]
    lines = [
        f"{LABELING}: {result['images']} images of {height}x{width} pixels in batches of "
        f"{result['batch_size']}, {result['clock']} time, median of {result['rounds']} rounds"
    ]
    for name, speed in result["images_per_second"].items():
        lines.append(f"{name:<22}{speed:.1f} images/s")
    return "\n".join([*lines, f"{'ratio':<22}{result['ratio']:.3f}"])


def _write_images(folder: Path, number: int, size: tuple[int, int]) -> ImageListing:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(number):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:04d}.jpg")
    return ImageListing.from_folder(folder)


def _generate(
    cfg: CfgNode, model: nn.Module, listing: ImageListing, folder: Path, batch_size: int
) -> Callable[[], None]:
    finder = BoxFinder(FrozenTeacher(model, cfg=cfg), score_floor=_SCORE_FLOOR)
    job = LabelingJob(
        output=folder,
        cfg=cfg,
        config_file=_CONFIG,
        weights="",
        weights_sha256="",
        class_names=tuple(str(number) for number in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)),
        listing=listing,
        batch_size=batch_size,
        score_floor=_SCORE_FLOOR,
        thresholds=None,
        precision="auto",
        tta=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )

    def step() -> None:
        mapper = build_mapper(cfg, is_train=False)
        sizes = {"batch_size": batch_size, "num_workers": job.num_workers}
        # The progress bar belongs on no benchmark's output.
        with contextlib.redirect_stderr(io.StringIO()):
            index = label_images(listing, mapper, finder, job.shards, **sizes)
        assert index is not None  # one process is the main one
        write_result(job, index)
        shutil.rmtree(job.shards)

    return step


def _detectron2(cfg: CfgNode, model: nn.Module, listing: ImageListing) -> Callable[[], None]:
    records = [
        {"file_name": f"{listing.root}/{name}", "image_id": image_id} for name, image_id in listing
    ]

    def step() -> None:
        loader = build_detection_test_loader(
            dataset=records,
            mapper=build_mapper(cfg, is_train=False),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
        inference_on_dataset(model, loader, _Collector())

    return step


class _Collector(DatasetEvaluator):
    """Collects boxes as Detectron2's COCO evaluator does, and evaluates nothing."""

    def reset(self) -> None:
        self.predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu")
            boxes = instances_to_coco_json(found, given["image_id"])
            self.predictions.append({"image_id": given["image_id"], "instances": boxes})

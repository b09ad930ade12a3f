"""Evaluators by kind of dataset."""

from __future__ import annotations

import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import convert_to_coco_json
from detectron2.evaluation import DatasetEvaluator, PascalVOCDetectionEvaluator
from tabulate import tabulate

from distill.data.catalog import use_one_reader
from distill.data.targets import check_keypoint_sigmas
from distill.engine.class_order import in_test_classes
from distill.engine.coco_evaluation import (
    COCOeval_faster,
    FasterCOCOEvaluator,
    NormalizedCOCOEvaluator,
)
from distill.utils.outputs import name_for_file
from distill.views.classes import class_names

try:
    from detectron2 import _C as _detectron2_extension
except ImportError:
    _detectron2_extension = None

__all__ = ["FasterCOCOEvaluator", "build_evaluator", "format_results"]


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """Builds the evaluator of a registered dataset, which takes the student's classes by name.

    Args:
        cfg: the config; MODEL.KEYPOINT_ON, TEST.KEYPOINT_OKS_SIGMAS and what names the student's
            classes are read.
        dataset_name: a dataset in COCO's or Pascal VOC's form.
        output_folder: where detections are written.

    Raises:
        FileNotFoundError: if the dataset's file is missing.
        ValueError: if it is damaged, the dataset is evaluated in another way, or it has none of
            the student's classes.
    """
    use_one_reader(dataset_name)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    if kind == "pascal_voc":
        evaluator = PascalVOCDetectionEvaluator(dataset_name)
    elif kind == "coco":
        check_keypoint_sigmas(cfg)
        evaluator = _coco_class(cfg)(
            dataset_name,
            json_file=_labels_of(dataset_name, output_folder),
            output_dir=output_folder,
            kpt_oks_sigmas=tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS),
        )
    else:
        raise ValueError(
            f"DATASETS.TEST: {dataset_name} is evaluated as {kind!r}, which is not supported; use "
            "a dataset of kind coco or pascal_voc."
        )
    tested = MetadataCatalog.get(dataset_name).get("thing_classes") or ()
    return in_test_classes(evaluator, dataset_name, tested, class_names(cfg))


def _coco_class(cfg: CfgNode) -> type[NormalizedCOCOEvaluator]:
    fast = _detectron2_extension is None and COCOeval_faster is not None
    return FasterCOCOEvaluator if fast and not cfg.MODEL.KEYPOINT_ON else NormalizedCOCOEvaluator


def _labels_of(dataset_name: str, output_folder: str) -> str:
    """The COCO file of a dataset, which is made of its records where there is none."""
    known = MetadataCatalog.get(dataset_name).get("json_file")
    if known:
        return known
    path = os.path.join(output_folder, f"{name_for_file(dataset_name)}_coco_format.json")
    # Anew: the one of an earlier run may be of other records.
    convert_to_coco_json(dataset_name, path, allow_cached=False)
    return path


def format_results(results: dict[str, Any]) -> str:
    """Formats a trainer's results as a table, one row for each dataset and task.

    Args:
        results: task -> metric -> value, or dataset -> task -> metric -> value.
    """
    metrics = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    rows = []
    for name, values in _by_task(results):
        rows.append([name, *(values.get(metric) for metric in metrics)])
    return tabulate(rows, headers=["", *metrics], floatfmt=".2f", missingval="-")


def _by_task(results: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, float]]]:
    rows = []
    for name, value in results.items():
        if not isinstance(value, dict):
            continue
        if any(isinstance(item, dict) for item in value.values()):
            rows.extend(_by_task(value, f"{prefix}{name}/"))
        else:
            rows.append((f"{prefix}{name}", value))
    return rows

"""Evaluators by kind of dataset."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import logging
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, PascalVOCDetectionEvaluator
from detectron2.utils.file_io import PathManager
from tabulate import tabulate

try:
    from detectron2 import _C as _detectron2_extension
except ImportError:
    _detectron2_extension = None
try:
    from faster_coco_eval import COCOeval_faster
except ImportError:
    COCOeval_faster = None

__all__ = ["FasterCOCOEvaluator", "build_evaluator", "format_results"]

_logger = logging.getLogger(__name__)


class FasterCOCOEvaluator(COCOEvaluator):
    """COCO's box and mask metrics, computed by faster-coco-eval; pycocotools gives the same."""

    def _eval_predictions(self, predictions: list[dict], img_ids: list | None = None) -> None:
        detections = list(itertools.chain.from_iterable(p["instances"] for p in predictions))
        tasks = self._tasks or self._tasks_from_predictions(detections)
        numbers = self._metadata.get("thing_dataset_id_to_contiguous_id", {})
        dataset_ids = {contiguous: number for number, contiguous in numbers.items()}
        for detection in detections:
            detection["category_id"] = _dataset_id(dataset_ids, detection["category_id"])
        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            with PathManager.open(path, "w") as stream:
                json.dump(detections, stream)
        if not self._do_evaluation:
            _logger.info("The dataset has no annotations to evaluate with.")
            return
        for task in sorted(tasks):
            evaluation = self._evaluate_task(detections, task, img_ids) if detections else None
            self._results[task] = self._derive_coco_results(
                evaluation, task, class_names=self._metadata.get("thing_classes")
            )

    def _evaluate_task(self, detections: list[dict], task: str, img_ids: list | None) -> Any:
        detections = copy.deepcopy(detections)
        if task == "segm":
            # With a box present COCO would sort masks into sizes by the box's area.
            for detection in detections:
                detection.pop("bbox", None)
        with contextlib.redirect_stdout(io.StringIO()):
            loaded = self._coco_api.loadRes(detections)
        evaluation = COCOeval_faster(
            self._coco_api,
            loaded,
            task,
            print_function=_logger.info,
            separate_eval=True,
        )
        evaluation.params.maxDets = self._max_dets_per_image
        if img_ids is not None:
            evaluation.params.imgIds = img_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """Builds the evaluator of a registered dataset.

    Args:
        cfg: the config; MODEL.KEYPOINT_ON and TEST.KEYPOINT_OKS_SIGMAS are read.
        dataset_name: a dataset in COCO's or Pascal VOC's form.
        output_folder: where detections are written.

    Raises:
        ValueError: if the dataset is evaluated in another way.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    if kind == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset_name)
    if kind != "coco":
        raise ValueError(
            f"DATASETS.TEST: {dataset_name} is evaluated as {kind!r}, which is not supported; use "
            "a dataset of kind coco or pascal_voc."
        )
    fast = _detectron2_extension is None and COCOeval_faster is not None
    evaluator_class = FasterCOCOEvaluator if fast and not cfg.MODEL.KEYPOINT_ON else COCOEvaluator
    return evaluator_class(
        dataset_name,
        output_dir=output_folder,
        kpt_oks_sigmas=tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS),
    )


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


def _dataset_id(dataset_ids: dict[int, int], contiguous: int) -> int:
    """Returns the id in the dataset's JSON file of a class; the same without a mapping."""
    if dataset_ids and contiguous not in dataset_ids:
        raise ValueError(
            f"The model predicts class {contiguous}, but the dataset has {len(dataset_ids)} "
            "classes; set MODEL.ROI_HEADS.NUM_CLASSES or MODEL.RETINANET.NUM_CLASSES to that."
        )
    return dataset_ids.get(contiguous, contiguous)

"""The images of DATASETS.UNLABELED as a loader takes them, and a report on their boxes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from tabulate import tabulate

from distill.data.pseudo.records import pseudo_records
from distill.data.unlabeled_config import check_unlabeled_config
from distill.labeling.dataset_labeling import LabeledDataset, label_datasets
from distill.labeling.quality import precision_recall
from distill.labeling.truth import true_annotations
from distill.utils.files import atomic_write
from distill.views.classes import class_names

__all__ = ["unlabeled_records"]

Record = dict[str, Any]
_logger = logging.getLogger(__name__)


def unlabeled_records(cfg: CfgNode) -> list[Record]:
    """The images of DATASETS.UNLABELED, flagged by "pseudo"; to be called on all ranks.

    Their annotations are the teacher's boxes above DISTILL.UNLABELED.SCORE_THRESHOLD, and images
    without such a box are left out; with DISTILL.UNLABELED.BOXES online all images come without
    boxes. The main process logs and writes how many boxes there are, and how good.

    Args:
        cfg: the student's config.

    Raises:
        ValueError: one sentence, if a key is wrong, a dataset is empty, or no image is left.
        FileNotFoundError: if the teacher's files are missing.
    """
    check_unlabeled_config(cfg)
    node = cfg.DISTILL.UNLABELED
    datasets = {name: _records_of(name) for name in cfg.DATASETS.UNLABELED}
    if node.BOXES == "online":
        return [x for records in datasets.values() for x in pseudo_records(records)]
    result = []
    for name, labeled in label_datasets(cfg, datasets).items():
        if comm.is_main_process():
            _report(cfg, name, datasets[name], labeled)
        result += pseudo_records(datasets[name], labeled.labels.above(node.SCORE_THRESHOLD))
    if not result:
        raise ValueError(
            f"The teacher finds nothing above {node.SCORE_THRESHOLD} in any image of "
            "DATASETS.UNLABELED: lower DISTILL.UNLABELED.SCORE_THRESHOLD or take a better teacher"
        )
    return result


def _records_of(name: str) -> list[Record]:
    records = DatasetCatalog.get(name)
    if not len(records):
        raise ValueError(
            f"DATASETS.UNLABELED has {name}, which holds no image: check its files or leave it out"
        )
    return list(records)


def _report(cfg: CfgNode, name: str, records: Sequence[Record], labeled: LabeledDataset) -> None:
    """Logs what the boxes are like, and writes it beside them."""
    threshold = cfg.DISTILL.UNLABELED.SCORE_THRESHOLD
    kept = labeled.labels.above(threshold)
    used = int((kept.counts(len(records)) > 0).sum())
    scores, edges = np.histogram(labeled.labels.scores, bins=10, range=(0, 1))
    truth = true_annotations(name, records, class_names(cfg))
    precision, recall = (None, None) if truth is None else precision_recall(kept, truth)
    report = {
        "dataset": name,
        "score_threshold": threshold,
        "images": len(records),
        "labeled_images": used,
        "left_out_images": len(records) - used,
        "boxes": len(kept),
        "boxes_per_image": len(kept) / len(records),
        "precision": precision,
        "recall": recall,
        "score_histogram": {"edges": edges.round(1).tolist(), "boxes": scores.tolist()},
    }
    path = labeled.path.with_name(f"{labeled.path.stem}_report.json")
    atomic_write(path, lambda stream: stream.write(json.dumps(report, indent=2).encode()))
    quality = ""
    if truth is not None:
        quality = f" Precision {_percent(precision)}, recall {_percent(recall)} at IoU 0.5."
    ranges = [f"{low:.1f}-{high:.1f}" for low, high in zip(edges, edges[1:], strict=False)]
    _logger.info(
        "%s: %d of %d images have boxes above %g, %d are left out; %.2f boxes an image.%s\n%s",
        *(name, used, len(records), threshold, len(records) - used, len(kept) / len(records)),
        quality,
        tabulate(zip(ranges, scores.tolist(), strict=True), headers=["score", "boxes"]),
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"

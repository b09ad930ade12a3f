"""The images of DATASETS.UNLABELED with the boxes that the teacher finds, and a report on these."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from tabulate import tabulate

from distill.data.mapper import Record
from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.records import in_student_classes, pseudo_records
from distill.data.unlabeled_config import check_unlabeled_config
from distill.labeling.generate import generate
from distill.labeling.matching import compare
from distill.labeling.result import percent
from distill.labeling.sources import true_labels
from distill.labeling.unlabeled_job import UnlabeledJob, plan_unlabeled_job
from distill.utils.distributed import from_main_process
from distill.utils.files import write_json

__all__ = ["unlabeled_records"]

_logger = logging.getLogger(__name__)


def unlabeled_records(cfg: CfgNode) -> list[Record]:
    """The images of DATASETS.UNLABELED, flagged by "pseudo"; to be called on all ranks.

    Their annotations are the teacher's boxes above DISTILL.UNLABELED.SCORE_THRESHOLD, and images
    without such a box are left out. What this teacher has labeled before is read from
    DISTILL.UNLABELED.CACHE_DIR; the rest all ranks label together, as `pseudo_label.py generate`
    does. The main process logs and writes how many boxes there are, and how good.

    Args:
        cfg: the student's config.

    Raises:
        ValueError: one sentence, if a key is wrong, a dataset is empty, or no image is left.
        FileNotFoundError: if the teacher's files are missing.
        OSError: if the boxes can't be written.
    """
    check_unlabeled_config(cfg)
    jobs = [plan_unlabeled_job(cfg, name) for name in cfg.DATASETS.UNLABELED]
    result = []
    for job in jobs:
        result += _records(job, _labeled(job), cfg)
    if not result:
        raise ValueError(
            f"The teacher finds nothing above {cfg.DISTILL.UNLABELED.SCORE_THRESHOLD} in any image "
            "of DATASETS.UNLABELED: lower DISTILL.UNLABELED.SCORE_THRESHOLD or take a better "
            "teacher"
        )
    return result


def _labeled(job: UnlabeledJob) -> PseudoFile:
    """The teacher's file on all ranks, which is made if need be."""
    # A file of many boxes is parsed once.
    file = from_main_process(partial(_read, job))
    if file is None:
        job.output.mkdir(parents=True, exist_ok=True)
        for sentence in generate(job):
            _logger.info(sentence)
        file = from_main_process(lambda: PseudoFile.load(job.result).boxes_only())
    return file


def _read(job: UnlabeledJob) -> PseudoFile | None:
    """The file on disk, or None where there is none that can be used."""
    try:
        file = PseudoFile.load(job.result).boxes_only()
    except FileNotFoundError:
        others = job.output.parent.glob(f"{job.output.name.rpartition('-')[0]}-*.json")
        if any(not path.stem.endswith("_report") for path in others):
            _logger.info(
                "The boxes of %s in %s are of another teacher, list of images or version of this "
                "library: they are not read.",
                *(job.listing.dataset, job.output.parent),
            )
    except ValueError as error:
        _logger.warning("%s: the teacher labels its images anew.", str(error).rstrip("."))
        job.result.unlink()
    else:
        _logger.info("The teacher's boxes are read from %s.", job.result)
        return file
    _logger.info("The teacher labels the %d images of %s.", len(job.listing), job.listing.dataset)
    return None


def _records(job: UnlabeledJob, file: PseudoFile, cfg: CfgNode) -> list[Record]:
    """The images that have boxes, as the dataset has them."""
    known = DatasetCatalog.get(job.listing.dataset)
    by_id = {x.get("image_id", number): x for number, x in enumerate(known, start=1)}
    # Without those that could not be read.
    records = [by_id[image["id"]] for image in file.images]
    file = in_student_classes(cfg, file, job.result)
    kept = replace(file, labels=file.labels.above(cfg.DISTILL.UNLABELED.SCORE_THRESHOLD))
    if comm.is_main_process():
        _report(job, file, kept, known)
    return pseudo_records(records, kept.labels)


def _report(
    job: UnlabeledJob, file: PseudoFile, kept: PseudoFile, records: Sequence[Record]
) -> None:
    """Logs what the boxes are like, and writes it beside them."""
    name, threshold = job.listing.dataset, job.student.DISTILL.UNLABELED.SCORE_THRESHOLD
    images, boxes = len(records), len(kept.labels)
    used = int((kept.labels.counts(len(file.images)) > 0).sum())
    scores, edges = np.histogram(file.labels.scores, bins=10, range=(0, 1))
    truth = true_labels(name, records)
    quality = None if truth is None else compare(kept, truth).quality
    report = {
        "dataset": name,
        "score_threshold": threshold,
        "images": images,
        "labeled_images": used,
        "left_out_images": images - used,
        "boxes": boxes,
        "boxes_per_image": boxes / images,
        "precision": quality and quality.precision,
        "recall": quality and quality.recall,
        "score_histogram": {"edges": edges.round(1).tolist(), "boxes": scores.tolist()},
    }
    write_json(job.report, report)
    shares = ""
    if quality:
        precision, recall = percent(quality.precision), percent(quality.recall)
        shares = f" Precision {precision}, recall {recall} at IoU 0.5."
    ranges = [f"{low:.1f}-{high:.1f}" for low, high in zip(edges, edges[1:], strict=False)]
    _logger.info(
        "%s: %d of %d images have boxes above %g, %d are left out; %.2f boxes an image.%s\n%s",
        *(name, used, images, threshold, images - used, boxes / images, shares),
        tabulate(zip(ranges, scores.tolist(), strict=True), headers=["score", "boxes"]),
    )

"""The teacher labels whole datasets before training, and its boxes are kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm

from distill.build import build_teacher_config
from distill.data.loader import build_mapper
from distill.data.pseudo.labels import PseudoLabels
from distill.data.registration import file_stem
from distill.data.unlabeled_config import SCORE_FLOOR
from distill.engine.teacher_evaluation import TeacherInStudentClasses
from distill.labeling.cache import load_pseudo_labels, save_pseudo_labels
from distill.utils.files import file_digest
from distill.utils.seeding import seeded
from distill.views.classes import class_names, num_classes
from distill.views.teacher import FrozenTeacher
from distill.views.teacher_weights import local_weights

__all__ = ["LabeledDataset", "label_datasets"]

Record = dict[str, Any]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabeledDataset:
    """What a teacher finds in a dataset.

    Attributes:
        path: the file that holds the boxes.
        labels: the boxes.
    """

    path: Path
    labels: PseudoLabels


def label_datasets(
    cfg: CfgNode, datasets: Mapping[str, Sequence[Record]]
) -> dict[str, LabeledDataset]:
    """What the teacher finds in datasets, at its own test resolution, above a low score.

    Read from DISTILL.UNLABELED.CACHE_DIR where this teacher has labeled a dataset before; else
    every rank labels its share, and the main one writes it there. To be called on all ranks.

    Args:
        cfg: the student's config.
        datasets: records in Detectron2's format, by the dataset's name.

    Returns:
        The boxes by the dataset's name, the same on all ranks.

    Raises:
        ValueError, FileNotFoundError: one sentence, if the config's teacher is amiss.
        OSError: if the boxes can't be written.
    """
    # All ranks look for the teacher's files, so that all stop where they are missing.
    keys = _keys(cfg, datasets)
    folder = Path(cfg.DISTILL.UNLABELED.CACHE_DIR or os.path.join(cfg.OUTPUT_DIR, "pseudo_boxes"))
    paths = {name: folder / f"{file_stem(name)}-{key[:16]}.json" for name, key in keys.items()}
    found: dict[str, PseudoLabels | None] = dict.fromkeys(datasets)
    if comm.is_main_process():
        found = {n: _read(paths[n], records, keys[n]) for n, records in datasets.items()}
    missing = comm.all_gather([name for name, labels in found.items() if labels is None])[0]
    if missing:
        # A teacher at random weights (a control) has to be the same on all ranks and in all runs.
        with seeded(0):
            teacher = build_teacher(cfg)
        detector = TeacherInStudentClasses(teacher, cfg)
        for name in missing:
            _logger.info("The teacher labels the %d images of %s.", len(datasets[name]), name)
            labels = _detect(cfg, detector, datasets[name])
            if labels is not None:
                info = _header(cfg, name, keys[name])
                folder.mkdir(parents=True, exist_ok=True)
                save_pseudo_labels(paths[name], labels, datasets[name], _names(cfg, teacher), info)
                # As a later run will read them, that is, rounded.
                found[name] = load_pseudo_labels(paths[name], datasets[name], keys[name])
    found = comm.all_gather(found)[0]
    return {name: LabeledDataset(paths[name], found[name]) for name in datasets}


def _read(path: Path, records: Sequence[Record], key: str) -> PseudoLabels | None:
    """The boxes on disk, or None where there are none that can be used."""
    try:
        labels = load_pseudo_labels(path, records, key)
    except FileNotFoundError:
        return None
    except ValueError as error:
        _logger.warning("%s: the teacher labels its images anew.", str(error).rstrip("."))
        return None
    _logger.info("The teacher's boxes are read from %s.", path)
    return labels


def _names(cfg: CfgNode, teacher: FrozenTeacher) -> Sequence[str]:
    return class_names(cfg) or [str(number) for number in range(num_classes(teacher.model))]


def _header(cfg: CfgNode, name: str, key: str) -> dict[str, Any]:
    return {
        "description": f"Boxes that a detector found in {name}",
        "key": key,
        "dataset": name,
        "score_floor": SCORE_FLOOR,
        "teacher_config": cfg.DISTILL.TEACHER.CONFIG_FILE,
        "teacher_weights": cfg.DISTILL.TEACHER.WEIGHTS,
    }


def _keys(cfg: CfgNode, datasets: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """By dataset a digest of all that the boxes depend on; the score threshold is not among it."""
    teacher = build_teacher_config(cfg)
    # Where the teacher runs and where its weights lie changes nothing.
    teacher.MODEL.DEVICE = teacher.MODEL.WEIGHTS = ""
    weights = cfg.DISTILL.TEACHER.WEIGHTS
    common = {
        "model": teacher.MODEL.dump(),
        "input": teacher.INPUT.dump(),
        "detections": teacher.TEST.DETECTIONS_PER_IMAGE,
        "precision": cfg.DISTILL.TEACHER.PRECISION,
        "weights": file_digest(local_weights(weights)) if weights else "",
        "teacher_classes": list(cfg.DISTILL.TEACHER.CLASSES) or class_names(teacher),
        "student_classes": class_names(cfg),
        "floor": SCORE_FLOOR,
    }
    keys = {}
    for name, records in datasets.items():
        images = [
            [Path(str(x["file_name"])).name, x.get("image_id"), x.get("width"), x.get("height")]
            for x in records
        ]
        text = json.dumps({**common, "dataset": name, "images": images}, sort_keys=True)
        keys[name] = hashlib.sha256(text.encode()).hexdigest()
    return keys


def _detect(
    cfg: CfgNode, detector: TeacherInStudentClasses, records: Sequence[Record]
) -> PseudoLabels | None:
    """The detections in all images, on the main process; None on the others."""
    loader = build_detection_test_loader(
        dataset=[{**record, "number": number} for number, record in enumerate(records)],
        mapper=build_mapper(detector.teacher.cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    # It logs its progress, and when it will be done.
    return inference_on_dataset(detector, loader, _BoxCollector()).get("labels")


class _BoxCollector(DatasetEvaluator):
    """Collects the detections of all ranks, in the order of the dataset."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, np.ndarray]] = []

    def reset(self) -> None:
        self._rows = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu")
            columns = (found.scores[:, None], found.pred_classes[:, None])
            rows = np.concatenate(
                [x.double().numpy() for x in (found.pred_boxes.tensor, *columns)], axis=1
            )
            self._rows.append((given["number"], rows[rows[:, 4] > SCORE_FLOOR]))

    def evaluate(self) -> dict[str, PseudoLabels] | None:
        shares = comm.gather(self._rows, dst=0)
        if not comm.is_main_process():
            return None
        rows = sorted((row for share in shares for row in share), key=lambda row: row[0])
        image = np.repeat([number for number, _ in rows], [len(boxes) for _, boxes in rows])
        table = np.concatenate([boxes for _, boxes in rows])
        labels = PseudoLabels(image, table[:, :4], table[:, 4], table[:, 5].astype(int))
        return {"labels": labels}

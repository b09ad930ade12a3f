"""The labeling job of one of DATASETS.UNLABELED: a student's teacher, and the cache."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from detectron2.config import CfgNode

from distill.build import build_teacher, build_teacher_config
from distill.data.registration import file_stem
from distill.data.unlabeled_config import SCORE_FLOOR
from distill.labeling.box_finder import check_can_label
from distill.labeling.images import ImageListing
from distill.labeling.job import LabelingJob
from distill.labeling.teacher_names import teacher_classes
from distill.utils.files import file_digest, json_digest
from distill.utils.seeding import seeded
from distill.views.classes import STUDENT_REMEDY, class_names, map_classes, num_classes
from distill.views.teacher import FrozenTeacher
from distill.views.teacher_weights import CONFIG_KEY, local_weights

__all__ = ["UnlabeledJob", "plan_unlabeled_job"]


@dataclass(frozen=True)
class UnlabeledJob(LabelingJob):
    """A labeling job whose file, FOLDER/DATASET-KEY.json, any training may read that has its key.

    The key stands for all that the boxes depend on; where teacher and images lie is no part of it.

    Attributes:
        student: the student's config.
    """

    # Trainings share a cache.
    waits_for_others: ClassVar[bool] = True
    elsewhere: ClassVar[str] = "choose another DISTILL.UNLABELED.CACHE_DIR"

    student: CfgNode

    @property
    def result(self) -> Path:
        """The file of pseudo labels, beside the folder of what is labeled so far."""
        return self.output.parent / f"{self.output.name}.json"

    @property
    def report(self) -> Path:
        """The file that says how many boxes a training takes, and how good they are."""
        return self.output.parent / f"{self.output.name}_report.json"

    def build_teacher(self) -> FrozenTeacher:
        """Builds the teacher that the student's config refers to.

        Raises:
            ValueError, FileNotFoundError: one sentence, if it is not as DISTILL.TEACHER says.
        """
        # A teacher at random weights (a control) has to be the same on all ranks and in all runs.
        with seeded(0):
            teacher = build_teacher(self.student)
        number = num_classes(teacher.model)
        if number != len(self.class_names):
            raise ValueError(
                f"The teacher predicts {number} classes, but {len(self.class_names)} names are "
                "known: name all of them in DISTILL.TEACHER.CLASSES, in the teacher's order."
            )
        return teacher


def plan_unlabeled_job(cfg: CfgNode, name: str) -> UnlabeledJob:
    """Checks whether the teacher of a student's config can label a dataset.

    Args:
        cfg: the student's config.
        name: one of DATASETS.UNLABELED.

    Raises:
        ValueError, FileNotFoundError: one sentence, if teacher, classes or dataset are amiss.
    """
    node, teacher = cfg.DISTILL.TEACHER, build_teacher_config(cfg)
    check_can_label(teacher, f"{CONFIG_KEY} {node.CONFIG_FILE}")
    names = teacher_classes(teacher, node.CLASSES, "set DISTILL.TEACHER.CLASSES to them")
    student = class_names(cfg)
    if not student:
        raise ValueError(
            "The teacher's boxes of DATASETS.UNLABELED are given to the student's classes by name, "
            f"but these are not known: {STUDENT_REMEDY}"
        )
    # Refuses a student with classes that the teacher lacks.
    map_classes(student, names, len(student), len(names))
    weights = local_weights(node.WEIGHTS) if node.WEIGHTS else ""
    cache = cfg.DISTILL.UNLABELED.CACHE_DIR or os.path.join(cfg.OUTPUT_DIR, "pseudo_boxes")
    job = UnlabeledJob(
        output=Path(cache),
        cfg=teacher,
        config_file=node.CONFIG_FILE,
        weights=weights,
        weights_sha256=file_digest(weights) if weights else "",
        class_names=names,
        listing=ImageListing.from_dataset(name, key="DATASETS.UNLABELED"),
        batch_size=1,
        score_floor=SCORE_FLOOR,
        thresholds=None,
        precision=node.PRECISION,
        tta=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        student=cfg,
    )
    settings = job.settings()
    for place in ("teacher", "image_root"):
        del settings[place]
    return replace(job, output=job.output / f"{file_stem(name)}-{json_digest(settings)[:16]}")

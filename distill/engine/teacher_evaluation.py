"""The teacher evaluated on the student's datasets: how good is what the student learns from?"""

from __future__ import annotations

import os
from typing import Any

from detectron2.config import CfgNode

from distill.views.classes import (
    class_names,
    map_classes,
    num_classes,
    student_classes,
    teacher_class_names,
)
from distill.views.teacher import FrozenTeacher

__all__ = ["TeacherInStudentClasses", "teacher_test_config"]


class TeacherInStudentClasses:
    """A teacher whose detections carry the student's class numbers; other classes are left out."""

    def __init__(self, teacher: FrozenTeacher, cfg: CfgNode) -> None:
        """Matches the classes by name.

        Args:
            teacher: the teacher, with its own config.
            cfg: the student's config.
        """
        self.teacher = teacher
        names = class_names(cfg)
        number = num_classes(teacher.model)
        teacher_names = teacher_class_names(cfg, teacher.cfg, number)
        columns = map_classes(names, teacher_names, len(names) or number, number)
        self.student_class = student_classes(columns, number)

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns Detectron2's detections, one dict an image."""
        device_type = next(self.teacher.model.parameters()).device.type
        with self.teacher.autocast(device_type):
            outputs = self.teacher.model(batched_inputs)
        if self.student_class is None:
            return outputs
        return [{**output, "instances": self._renumber(output["instances"])} for output in outputs]

    def _renumber(self, instances: Any) -> Any:
        numbers = self.student_class.to(instances.pred_classes.device)[instances.pred_classes]
        instances.pred_classes = numbers
        return instances[numbers >= 0]


def teacher_test_config(cfg: CfgNode, teacher_cfg: CfgNode) -> CfgNode:
    """The teacher's config with the student's test datasets, for loaders and evaluators.

    Args:
        cfg: the student's config.
        teacher_cfg: the teacher's config, whose INPUT is kept.
    """
    merged = teacher_cfg.clone()
    merged.defrost()
    merged.DATASETS.TEST = cfg.DATASETS.TEST
    # The teacher's detections come in the student's classes, which these name.
    merged.DATASETS.TRAIN = cfg.DATASETS.TRAIN
    merged.DATASETS.PSEUDO = cfg.DATASETS.PSEUDO
    merged.DISTILL.PSEUDO.CLASSES_OF = cfg.DISTILL.PSEUDO.CLASSES_OF
    merged.DATALOADER.NUM_WORKERS = cfg.DATALOADER.NUM_WORKERS
    merged.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "teacher")
    return merged

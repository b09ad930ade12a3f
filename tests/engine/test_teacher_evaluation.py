from __future__ import annotations

import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from torch import nn

from distill.config import add_distill_config
from distill.engine.teacher_evaluation import TeacherInStudentClasses, teacher_test_config
from distill.views.classes import naming_dataset
from distill.views.teacher import FrozenTeacher


class _Detector(nn.Module):
    """Finds one object of each of its classes."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch: list[dict]) -> list[dict]:
        return [{"instances": Instances((4, 4), pred_classes=torch.arange(3))} for _ in batch]


def test_detections_carry_the_student_s_classes_and_others_are_left_out():
    MetadataCatalog.get("teacher_evaluation_student").thing_classes = ["cat", "dog"]
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DATASETS.TRAIN = ("teacher_evaluation_student",)
    cfg.DISTILL.TEACHER.CLASSES = ("dog", "bird", "cat")
    detector = TeacherInStudentClasses(FrozenTeacher(_Detector(), cfg=cfg), cfg)
    (output,) = detector([{}])
    assert output["instances"].pred_classes.tolist() == [1, 0]


def test_the_teacher_s_detections_are_evaluated_as_of_the_student_s_classes():
    student, teacher = get_cfg(), get_cfg()
    for cfg in (student, teacher):
        add_distill_config(cfg)
    student.DATASETS.TRAIN, teacher.DATASETS.TRAIN = ("students",), ("teachers",)
    student.DATASETS.TEST = ("test",)
    merged = teacher_test_config(student, teacher)
    assert (merged.DATASETS.TRAIN, merged.DATASETS.TEST) == (("students",), ("test",))
    assert naming_dataset(merged) == "students"
    student.DATASETS.TRAIN, student.DISTILL.PSEUDO.CLASSES_OF = (), "named"
    assert naming_dataset(teacher_test_config(student, teacher)) == "named"

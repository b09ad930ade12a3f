"""Detections in the classes of a test dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator

from distill.utils.wording import some_of

__all__ = ["InTestClasses", "in_test_classes"]


class InTestClasses(DatasetEvaluator):
    """An evaluator whose dataset has the student's classes by other numbers.

    Detections of classes that the dataset lacks are left out.
    """

    def __init__(self, evaluator: DatasetEvaluator, places: Sequence[int]) -> None:
        """Wraps an evaluator.

        Args:
            evaluator: that of the dataset.
            places: the dataset's number of each of the student's classes, -1 where it lacks it.
        """
        self.evaluator = evaluator
        self.places = torch.tensor(places)

    def reset(self) -> None:
        """Forgets all detections."""
        self.evaluator.reset()

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes the detections of some images; those that are given stay as they are."""
        self.evaluator.process(inputs, [self._renumbered(output) for output in outputs])

    def evaluate(self) -> dict[str, Any]:
        """The dataset's metrics."""
        return self.evaluator.evaluate()

    def _renumbered(self, output: dict[str, Any]) -> dict[str, Any]:
        if "instances" not in output:
            return output
        found = output["instances"]
        highest = int(found.pred_classes.max()) if len(found) else -1
        if highest >= len(self.places):
            raise ValueError(
                f"The model predicts class {highest}, but its training dataset has "
                f"{len(self.places)} classes; set MODEL.ROI_HEADS.NUM_CLASSES or "
                "MODEL.RETINANET.NUM_CLASSES to that."
            )
        numbers = self.places.to(found.pred_classes.device)[found.pred_classes]
        kept = found[numbers >= 0]
        kept.pred_classes = numbers[numbers >= 0]
        return {**output, "instances": kept}


def in_test_classes(
    evaluator: DatasetEvaluator, dataset: str, tested: Sequence[str], student: Sequence[str]
) -> DatasetEvaluator:
    """An evaluator that takes the student's classes, matched by name.

    Args:
        evaluator: that of the dataset.
        dataset: its name, for messages.
        tested: the names of its classes; () if they are not known.
        student: those of the student's; likewise.

    Raises:
        ValueError: one sentence, if they have no name in common.
    """
    if not tested or not student or tuple(tested) == tuple(student):
        return evaluator
    numbers = {name: number for number, name in enumerate(tested)}
    places = [numbers.get(name, -1) for name in student]
    if max(places) < 0:
        raise ValueError(
            f"DATASETS.TEST: {dataset} has none of the student's classes ({some_of(student, 5)}) "
            f"but {some_of(tested, 5)}: rename them in one of the two files."
        )
    return InTestClasses(evaluator, places)

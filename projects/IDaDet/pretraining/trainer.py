"""The trainer of one step of the pre-training."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator
from torch.utils.data import DataLoader

from distill.data.loader import TrainLoader
from distill.engine.results import RunResults
from distill.engine.trainer import Trainer
from pretraining.data import build_test_loader, build_train_loader
from pretraining.evaluation import TopKAccuracy

__all__ = ["ClassifierTrainer"]


class ClassifierTrainer(Trainer):
    """Trains a backbone with a classifier on PRETRAIN.DATA, as the trainer of detectors does."""

    def test_teacher(self) -> dict[str, Any]:
        """Evaluates the teacher on the images that evaluate the student.

        Raises:
            ValueError: if there is no teacher.
        """
        model = self.student
        if model.teacher is None:
            raise ValueError(
                "There is no teacher to evaluate: set PRETRAIN.TEACHER.NAME or CONFIG_FILE."
            )
        return self.test(self.cfg, lambda batch: model.teacher.logits(model.images(batch)))

    def build_hooks(self) -> list[HookBase]:
        """Those of a detector's training, with accuracies among the results."""
        found = super().build_hooks()
        for hook in found:
            if isinstance(hook, RunResults):
                hook.summarize = _accuracies
        return found

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, seed: int) -> TrainLoader:
        """Builds the training loader for a run seed."""
        return build_train_loader(cfg, seed=seed)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """Builds the loader of the images for evaluation."""
        return build_test_loader(cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Builds the evaluator."""
        return TopKAccuracy()


def _accuracies(results: dict[str, Any], datasets: list[str]) -> dict[str, dict[str, float]]:
    """The accuracies of the one set of images that is evaluated, in percent."""
    return {dataset: dict(results["classification"]) for dataset in datasets}

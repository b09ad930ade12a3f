"""The two steps of the pre-training, one after the other, and what comes out of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from distill.engine.hooks import plain_weights
from distill.engine.results import RESULTS_FILE, combine_results
from distill.engine.resuming import load_for_evaluation
from distill.utils.checkpoint import SafeCheckpointer
from distill.utils.config_files import merge_overrides
from distill.utils.files import atomic_write
from pretraining.classifier import BackboneClassifier
from pretraining.teacher import without_teacher
from pretraining.trainer import ClassifierTrainer

__all__ = ["BACKBONE_FILE", "Pretraining", "evaluate", "step_configs"]

BACKBONE_FILE = "backbone.pth"

_STEPS = {
    "activations": ("activations",),
    "weights": ("weights",),
    "both": ("activations", "weights"),
}
_WEIGHTS = "model_final.pth"

_logger = logging.getLogger(__name__)


def step_configs(cfg: CfgNode) -> list[CfgNode]:
    """The config of every step of the pre-training.

    Of two steps each has a folder of its name below OUTPUT_DIR, and the second starts from the
    weights of the first.

    Args:
        cfg: the config; PRETRAIN.STEP names the steps.

    Raises:
        ValueError: one sentence, if the step or an override is unknown.
    """
    names = _STEPS.get(cfg.PRETRAIN.STEP)
    if names is None:
        raise ValueError(
            f"PRETRAIN.STEP {cfg.PRETRAIN.STEP!r} is unknown: use {', '.join(_STEPS)}."
        )
    configs = []
    for name in names:
        step = cfg.clone()
        step.defrost()
        step.MODEL.META_ARCHITECTURE = BackboneClassifier.__name__
        step.DATASETS.TRAIN, step.DATASETS.TEST = (), ("val",)
        step.PRETRAIN.STEP = name
        if name == "activations":
            step.MODEL.BINARY.WEIGHTS = False
        if len(names) > 1:
            step.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR, name))
        if configs:
            step.MODEL.WEIGHTS = str(Path(configs[-1].OUTPUT_DIR, _WEIGHTS))
            # Not the first step's crops once more; a negative seed is drawn anew anyway.
            step.SEED = cfg.SEED + 1 if cfg.SEED >= 0 else cfg.SEED
        overrides = f"{name.upper()}_OPTS"
        merge_overrides(step, step.PRETRAIN[overrides], key=f"PRETRAIN.{overrides}")
        step.freeze()
        configs.append(step)
    return configs


class Pretraining:
    """Runs the steps, resumes them where they were interrupted, and saves the backbone.

    Attributes:
        trainer: the trainer of the present step.
    """

    def __init__(self, cfg: CfgNode, *, resume: bool = False) -> None:
        """Builds the first step's trainer and loads what it starts from.

        Args:
            cfg: the config.
            resume: continue the run in OUTPUT_DIR, if there is one.

        Raises:
            ValueError, FileNotFoundError: one sentence, if keys, images, teacher or weights are
                amiss.
        """
        self.output = Path(cfg.OUTPUT_DIR)
        self.configs = step_configs(cfg)
        self.trainer = self._prepare(self.configs[0], resume)
        if comm.is_main_process() and not self._is_complete():
            # What followed an older first step is obsolete.
            for name in (BACKBONE_FILE, RESULTS_FILE):
                (self.output / name).unlink(missing_ok=True)
            for later in self.configs[1:]:
                Path(later.OUTPUT_DIR, "last_checkpoint").unlink(missing_ok=True)

    def train(self) -> dict[str, dict[str, Any]]:
        """Runs what is left of the steps; writes ``backbone.pth`` and ``results.json``.

        Returns:
            The results of every step that ran, by its name.
        """
        results = {}
        for config in self.configs:
            if config is not self.configs[0]:
                self.trainer = self._prepare(config, resume=True)
            if self._is_complete() and config is not self.configs[-1]:
                _logger.info("The step %s is complete.", config.PRETRAIN.STEP)
                continue
            _logger.info("The step %s, in %s:", config.PRETRAIN.STEP, config.OUTPUT_DIR)
            results[config.PRETRAIN.STEP] = self.trainer.train()
        if comm.is_main_process():
            _save_backbone(self.trainer.student, self.output / BACKBONE_FILE)
            if len(self.configs) > 1:
                combine_results(self.output, [config.PRETRAIN.STEP for config in self.configs])
        return results

    def _prepare(self, config: CfgNode, resume: bool) -> ClassifierTrainer:
        folder = Path(config.OUTPUT_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        trainer = ClassifierTrainer(config)
        trainer.resume_or_load(resume=resume)
        if comm.is_main_process():
            (folder / "config.yaml").write_text(config.dump(), encoding="utf-8")
        return trainer

    def _is_complete(self) -> bool:
        return self.trainer.start_iter >= self.trainer.max_iter


def evaluate(cfg: CfgNode, *, resume: bool = False) -> dict[str, Any]:
    """Evaluates the last step's network, without its teacher.

    Args:
        cfg: the config; MODEL.WEIGHTS is evaluated.
        resume: evaluate the last checkpoint in OUTPUT_DIR instead, if there is one.

    Raises:
        ValueError, FileNotFoundError: one sentence, if there is nothing to evaluate.
    """
    step = without_teacher(step_configs(cfg)[-1])
    checkpointer = SafeCheckpointer(build_model(step), step.OUTPUT_DIR)
    if not cfg.MODEL.WEIGHTS and not (resume and checkpointer.has_checkpoint()):
        raise ValueError(
            "--eval-only has no weights to evaluate: set MODEL.WEIGHTS, or add --resume for the "
            "last checkpoint of OUTPUT_DIR's last step."
        )
    load_for_evaluation(checkpointer, cfg.MODEL.WEIGHTS, resume=resume)
    return ClassifierTrainer.test(step, checkpointer.model)


def _save_backbone(model: nn.Module, path: Path) -> None:
    """Writes the backbone's weights alone, under the keys that the detector has for them."""
    weights = {
        key: value for key, value in plain_weights(model).items() if key.startswith("backbone.")
    }
    atomic_write(path, lambda stream: torch.save({"model": weights}, stream))
    _logger.info("The backbone is in %s: set a detector's MODEL.WEIGHTS to it.", path)

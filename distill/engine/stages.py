"""A run of two stages: on pseudo labels alone, then on labels with a small learning rate."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from distill.engine.results import RESULTS_FILE, combine_results
from distill.utils.config_keys import defines_keys, limit
from distill.utils.distributed import from_main_process
from distill.utils.files import atomic_write
from distill.utils.key_limits import number, whole

__all__ = ["STAGES", "run_stages", "stage_configs"]

# The folders below OUTPUT_DIR, in their order.
STAGES = ("stage1_pseudo", "stage2_finetune")
_WEIGHTS = "model_final.pth"
_logger = logging.getLogger(__name__)


@defines_keys
def _add_stage_keys(cfg: CfgNode) -> None:
    # train_net.py --stages: first DATASETS.PSEUDO alone for SOLVER.MAX_ITER, then DATASETS.TRAIN.
    finetune = cfg.DISTILL.FINETUNE = CfgNode()
    # Iterations of the second stage; 0 is a third of the first one's.
    finetune.MAX_ITER = 0
    # Its learning rate relative to SOLVER.BASE_LR.
    finetune.LR_FACTOR = 0.1
    limit(finetune, MAX_ITER=whole(at_least=0), LR_FACTOR=number(above=0))


Train = Callable[[CfgNode, bool], dict[str, Any]]


def stage_configs(cfg: CfgNode) -> dict[str, CfgNode]:
    """The configs of both stages, by the name of their folder; each can be trained by itself.

    The first trains on DATASETS.PSEUDO alone, for SOLVER.MAX_ITER. The second starts from its
    weights with a new optimizer and trains on DATASETS.TRAIN with DISTILL.FINETUNE.LR_FACTOR of the
    learning rate, for DISTILL.FINETUNE.MAX_ITER or a third of SOLVER.MAX_ITER; SOLVER.STEPS are
    scaled with the length.

    Args:
        cfg: the config of the whole run.

    Raises:
        ValueError: one sentence, if a stage has nothing to train on or no length.
    """
    if not cfg.DATASETS.PSEUDO:
        raise ValueError(
            "--stages has no pseudo labels for its first stage: name the files of "
            "pseudo_label.py in DATASETS.PSEUDO"
        )
    if not cfg.DATASETS.TRAIN:
        raise ValueError(
            "--stages has no labels to fine-tune on: name a dataset in DATASETS.TRAIN, or leave "
            "--stages out and train on DATASETS.PSEUDO alone"
        )
    length = cfg.DISTILL.FINETUNE.MAX_ITER or round(cfg.SOLVER.MAX_ITER / 3)
    if length < 1:
        raise ValueError("DISTILL.FINETUNE.MAX_ITER is 0 and SOLVER.MAX_ITER too small for a third")
    first, second = cfg.clone(), cfg.clone()
    for stage, name in zip((first, second), STAGES, strict=True):
        stage.defrost()
        stage.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, name)
    factors = tuple(cfg.DATASETS.REPEAT_FACTORS)
    labeled = len(cfg.DATASETS.TRAIN)
    first.DATASETS.REPEAT_FACTORS = factors[labeled:]
    second.DATASETS.REPEAT_FACTORS = factors[:labeled]
    # The classes' order is that of the labels in both stages.
    first.DISTILL.PSEUDO.CLASSES_OF = cfg.DATASETS.TRAIN[0]
    first.DATASETS.TRAIN = ()
    second.DATASETS.PSEUDO = ()
    second.MODEL.WEIGHTS = os.path.join(first.OUTPUT_DIR, _WEIGHTS)
    second.SOLVER.BASE_LR = cfg.SOLVER.BASE_LR * cfg.DISTILL.FINETUNE.LR_FACTOR
    second.SOLVER.MAX_ITER = length
    scale = length / cfg.SOLVER.MAX_ITER
    second.SOLVER.STEPS = tuple(round(step * scale) for step in cfg.SOLVER.STEPS)
    for stage in (first, second):
        stage.freeze()
    return dict(zip(STAGES, (first, second), strict=True))


def run_stages(cfg: CfgNode, train: Train, *, resume: bool) -> dict[str, Any]:
    """Trains both stages below OUTPUT_DIR, where final weights and results come to lie.

    With `resume` a finished stage is left as it is, and an interrupted one goes on. To be called on
    all ranks.

    Args:
        cfg: the config of the whole run.
        train: trains what a config describes, going on if the second argument says so; returns the
            final evaluation's results.
        resume: continue an interrupted run.

    Returns:
        What `train` returned for the last stage; {} where all was finished before.

    Raises:
        ValueError: see :func:`stage_configs`.
    """
    configs = stage_configs(cfg)
    results: dict[str, Any] = {}
    output = Path(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        (output / RESULTS_FILE).unlink(missing_ok=True)
    for place, (name, stage) in enumerate(configs.items(), start=1):
        folder = output / name
        if from_main_process(partial(_is_finished, folder)) and resume:
            _logger.info("Stage %d of %d is finished: %s.", place, len(configs), folder)
            continue
        if comm.is_main_process():
            for later in list(configs)[place:]:
                _forget(output / later)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(stage.dump(), encoding="utf-8")
        comm.synchronize()
        _logger.info(
            "Stage %d of %d: %d iterations on %s.",
            *(place, len(configs), stage.SOLVER.MAX_ITER),
            ", ".join((*stage.DATASETS.TRAIN, *stage.DATASETS.PSEUDO)),
        )
        results = train(stage, resume)
    if comm.is_main_process():
        _finish(output)
    comm.synchronize()
    return results


def _is_finished(folder: Path) -> bool:
    return (folder / RESULTS_FILE).exists() and (folder / _WEIGHTS).exists()


def _forget(folder: Path) -> None:
    """Lets a stage start anew that followed from another first stage."""
    for name in (RESULTS_FILE, "last_checkpoint"):
        (folder / name).unlink(missing_ok=True)


def _finish(output: Path) -> None:
    """Puts the last stage's weights and the results of all into the run's folder."""
    weights = output / STAGES[-1] / _WEIGHTS

    def copy(stream: Any) -> None:
        with open(weights, "rb") as source:
            shutil.copyfileobj(source, stream)

    atomic_write(output / _WEIGHTS, copy)
    combine_results(output, STAGES)

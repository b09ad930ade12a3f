"""The trainer: Detectron2's default one, made repeatable, resumable and able to use CPUs."""

from __future__ import annotations

import logging
import os
import weakref
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from distill.build import build_teacher, said_of_keys
from distill.checks import check_student_classes
from distill.data.failures import ReadableBatches
from distill.data.loader import TrainLoader, build_test_loader, build_train_loader
from distill.data.mixed_loader import MixedTrainLoader, build_mixed_loader
from distill.data.registration import file_stem
from distill.distiller import student_of, teacher_of
from distill.engine.evaluation import build_evaluator
from distill.engine.hooks import RepeatablePreciseBN, StudentCheckpoints
from distill.engine.interruptible import InterruptibleTrainer, StopOnSignal
from distill.engine.loop import NORMALIZER, TrainLoop
from distill.engine.precision import autocast_dtype
from distill.engine.results import RunResults, TrainingClock
from distill.engine.resuming import load_start, resume_run
from distill.engine.run_files import start_run_files
from distill.engine.run_record import RunRecord
from distill.engine.solver import build_lr_scheduler, build_optimizer
from distill.engine.summary import only_in_files
from distill.engine.teacher_evaluation import TeacherInStudentClasses, teacher_test_config
from distill.labeling.unlabeled import unlabeled_records
from distill.modeling.auxiliary_losses import add_auxiliary_losses
from distill.modeling.ignored_regions import add_ignored_regions
from distill.utils.checkpoint import SafeCheckpointer
from distill.utils.seeding import Stream, derive_seed, seed_all
from distill.utils.trainer_keys import acts_on_trainer_keys

__all__ = ["Trainer"]

_logger = logging.getLogger(__name__)


class Trainer(InterruptibleTrainer):
    """Trains what a config describes: a student under its teacher, or any Detectron2 detector.

    Attributes:
        seed: the run seed: SEED, or one drawn for this run where SEED is negative.
        model: the module to train, in DistributedDataParallel where there are several processes.
        student: the detector that is evaluated and exported.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Builds model, optimizer, loader and hooks; loads no weights."""
        # DefaultTrainer's own constructor can't run DDP on a CPU or continue a loader.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        dtype = autocast_dtype(cfg)

        loader = self.build_train_loader(cfg, self.seed)
        # All ranks alike: what is not a parameter is not broadcast.
        seed_all(derive_seed(self.seed, Stream.INIT))
        # The structure of the whole network is for the log file.
        with acts_on_trainer_keys(), only_in_files("detectron2.engine.defaults"):
            model = self.build_model(cfg)
        _prepare_student(cfg, student_of(model), model)
        optimizer = self.build_optimizer(cfg, model)
        model = _distribute(model)
        self._trainer = TrainLoop(model, loader, optimizer, seed=self.seed, dtype=dtype)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self._record = RunRecord(cfg, _undistributed(model), optimizer)
        self.checkpointer = SafeCheckpointer(
            model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self), run=self._record
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self._last_eval_results: dict[str, Any] = {}
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Builds the model on its device, see DefaultTrainer.

        Raises:
            ValueError: one sentence, if the keys make no detector.
        """
        with said_of_keys():
            return super().build_model(cfg)

    @property
    def student(self) -> nn.Module:
        """The detector that is evaluated and exported."""
        return student_of(_undistributed(self.model))

    def test_teacher(self) -> dict[str, Any]:
        """Evaluates the teacher on the student's test datasets and classes.

        Raises:
            ValueError, FileNotFoundError: if the config refers to no teacher, or wrongly.
        """
        teacher = teacher_of(_undistributed(self.model))
        if teacher is None:
            teacher = build_teacher(self.cfg)
        detector = TeacherInStudentClasses(teacher, self.cfg)
        return self.test(teacher_test_config(self.cfg, teacher.cfg), detector)

    def resume_or_load(self, resume: bool = True) -> None:
        """Continues the run in OUTPUT_DIR, or loads MODEL.WEIGHTS for a new one.

        Args:
            resume: continue from the last checkpoint, if there is one.

        Raises:
            ValueError, FileNotFoundError: if processes see different checkpoints, or what there is
                to load does not fit the config.
        """
        has_checkpoint = comm.all_gather(self.checkpointer.has_checkpoint())
        if resume and any(has_checkpoint) and not all(has_checkpoint):
            raise ValueError(
                f"Only some processes see a checkpoint in OUTPUT_DIR {self.cfg.OUTPUT_DIR}: put it "
                "on storage that all machines share."
            )
        if not (resume and all(has_checkpoint)):
            load_start(self.checkpointer, self.cfg.MODEL.WEIGHTS)
        else:
            resume_run(self.checkpointer, self._record, self.scheduler)
            self.start_iter = self.iter + 1
            self._apply_schedule()
        self._trainer.seed = self.seed
        self.data_loader.seek(self.seed, self.start_iter)
        comm.synchronize()
        if comm.is_main_process():
            start_run_files(Path(self.cfg.OUTPUT_DIR), self.start_iter)

    def _apply_schedule(self) -> None:
        """Sets the next learning rates, which a changed SOLVER.MAX_ITER may have changed."""
        rates = self.scheduler.get_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def train(self) -> dict[str, Any]:
        """Trains up to SOLVER.MAX_ITER; returns the final evaluation's results."""
        _logger.info("The run seed is %d.", self.seed)
        return super().train()

    def build_hooks(self) -> list[hooks.HookBase]:
        """Timing, schedule, batch statistics, checkpoints, stopping, evaluation, writing."""
        cfg = self.cfg
        clock = TrainingClock()
        result = [clock, hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.TEST.PRECISE_BN.ENABLED:
            result.append(self._build_precise_bn())
        if comm.is_main_process():
            period = cfg.SOLVER.CHECKPOINT_PERIOD
            result.append(StudentCheckpoints(self.checkpointer, self.student, period))
        result.append(StopOnSignal())
        result.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        result.append(RunResults(clock))
        if comm.is_main_process():
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return result

    def _build_precise_bn(self) -> RepeatablePreciseBN:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0
        # Labeled images alone: others may have no boxes before the teacher sees them.
        cfg.DATASETS.UNLABELED = ()
        loader = self.build_train_loader(cfg, self.seed)
        number = cfg.TEST.PRECISE_BN.NUM_ITER
        return RepeatablePreciseBN(cfg.TEST.EVAL_PERIOD, self.student, loader, number)

    def _evaluate(self) -> dict[str, Any]:
        with self._signals.breaking():
            self._last_eval_results = self.test(self.cfg, self.student)
        return self._last_eval_results

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, seed: int) -> TrainLoader | MixedTrainLoader:
        """Builds the loader for a run seed; the teacher labels what is to be labeled first."""
        if cfg.DATASETS.UNLABELED:
            return build_mixed_loader(cfg, unlabeled_records(cfg), seed=seed)
        return build_train_loader(cfg, seed=seed)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> ReadableBatches:
        """Builds the loader of one of DATASETS.TEST."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Builds the optimizer that SOLVER names."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Builds the schedule that SOLVER names."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Builds a dataset's evaluator, which writes below OUTPUT_DIR/inference."""
        folder = os.path.join(cfg.OUTPUT_DIR, "inference", file_stem(dataset_name))
        return build_evaluator(cfg, dataset_name, folder)

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks, run seed, and the state of the loop with its optimizer."""
        state = TrainerBase.state_dict(self)
        state |= {"_trainer": self._trainer.state_dict(), "seed": self.seed}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`, also of a plain Detectron2 trainer of any version."""
        TrainerBase.load_state_dict(self, state_dict)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])
        else:
            _logger.warning("The checkpoint has no optimizer state: the optimizer starts anew.")
        seed = state_dict.get("seed", self.seed)
        if self.cfg.SEED >= 0 and self.cfg.SEED != seed:
            _logger.warning("The run goes on with its own seed %d, not SEED.", seed)
        self.seed = seed
        if NORMALIZER in state_dict:  # Before it was the loop's.
            self._trainer.normalizer = state_dict[NORMALIZER]


def _prepare_student(cfg: CfgNode, student: nn.Module, model: nn.Module) -> None:
    """Adds what a plain detector does not do in training by itself.

    Raises:
        ValueError: if it predicts another number of classes than the pseudo labels' dataset has.
    """
    add_auxiliary_losses(student)
    check_student_classes(cfg, student)
    if cfg.DATASETS.PSEUDO and cfg.DISTILL.PSEUDO.IGNORE_THRESHOLD > 0:
        add_ignored_regions(student, around=model)


def _undistributed(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


def _distribute(model: nn.Module) -> nn.Module:
    device = next(model.parameters()).device
    device_ids = None if device.type == "cpu" else [comm.get_local_rank()]
    return create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)

"""Training and evaluation around Detectron2's trainer."""

from distill.engine.evaluation import build_evaluator, format_results
from distill.engine.interruptible import TrainingError
from distill.engine.loop import TrainLoop
from distill.engine.resuming import load_for_evaluation
from distill.engine.setup import build_config, exit_with, set_up, training_parser
from distill.engine.solver import build_optimizer
from distill.engine.stages import run_stages, stage_configs
from distill.engine.trainer import Trainer
from distill.utils.launch import launch_training

__all__ = [
    "TrainLoop",
    "Trainer",
    "TrainingError",
    "build_config",
    "build_evaluator",
    "build_optimizer",
    "exit_with",
    "format_results",
    "launch_training",
    "load_for_evaluation",
    "run_stages",
    "set_up",
    "stage_configs",
    "training_parser",
]

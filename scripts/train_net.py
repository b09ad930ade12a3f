#!/usr/bin/env python
"""Trains or evaluates what a config describes: a student under its teacher, or any detector.

Detectron2's arguments, with --eval-teacher and --num-processes added. Examples:

    train_net.py --config-file student.yaml OUTPUT_DIR output/student
    train_net.py --config-file student.yaml --resume OUTPUT_DIR output/student
    train_net.py --config-file student.yaml --eval-only MODEL.WEIGHTS model_final.pth
    train_net.py --config-file student.yaml --eval-only MODEL.WEIGHTS packed.safetensors

On the pseudo labels of DATASETS.PSEUDO, then fine-tuned on DATASETS.TRAIN:

    train_net.py --config-file student.yaml --stages DATASETS.PSEUDO "('output/pseudo.json',)"

Two CPU processes on one machine, and one on each of two machines:

    train_net.py --num-gpus 0 --num-processes 2 --config-file student.yaml
    train_net.py --num-gpus 0 --num-machines 2 --machine-rank 0 --dist-url tcp://host:29500 ...
    train_net.py --num-gpus 0 --num-machines 2 --machine-rank 1 --dist-url tcp://host:29500 ...
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils import comm

from distill.build import said_of_keys
from distill.config import student_config
from distill.deploy import is_packed, load_packed
from distill.engine import (
    Trainer,
    TrainingError,
    exit_with,
    format_results,
    launch_training,
    load_for_evaluation,
    run_stages,
    set_up,
    training_parser,
)
from distill.utils.checkpoint import SafeCheckpointer


def main(args: argparse.Namespace) -> None:
    """Runs one process of a training or an evaluation."""
    try:
        cfg = set_up(args)
        if args.eval_only:
            results = evaluate(cfg, args.resume)
        elif args.stages:
            train = functools.partial(train_one, args.eval_teacher)
            results = run_stages(cfg, train, resume=args.resume)
        else:
            results = train_one(args.eval_teacher, cfg, args.resume)
    except (ValueError, OSError, FloatingPointError, TrainingError) as error:
        exit_with(error)
    if results:
        show("Results", results)


def train_one(eval_teacher: bool, cfg: CfgNode, resume: bool) -> dict[str, Any]:
    """Trains what a config describes, which may be one stage of two."""
    return prepare_training(cfg, resume, eval_teacher).train()


def prepare_training(cfg: CfgNode, resume: bool, eval_teacher: bool) -> Trainer:
    """Builds the trainer and loads what it starts from."""
    trainer = Trainer(cfg)
    if eval_teacher:
        show("Teacher", trainer.test_teacher())
    trainer.resume_or_load(resume=resume)
    return trainer


def evaluate(cfg: CfgNode, resume: bool) -> dict[str, Any]:
    """Evaluates the student alone, packed or not, without building its teacher."""
    cfg = student_config(cfg)
    with said_of_keys():
        model = build_model(cfg)
    checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR)
    resume = resume and checkpointer.has_checkpoint()
    if not cfg.MODEL.WEIGHTS and not resume:
        raise ValueError(
            "--eval-only has no weights to evaluate: set MODEL.WEIGHTS, or add --resume for the "
            "last checkpoint in OUTPUT_DIR."
        )
    if is_packed(cfg.MODEL.WEIGHTS) and not resume:
        packed = load_packed(cfg.MODEL.WEIGHTS, cfg=cfg, device=cfg.MODEL.DEVICE)
        return Trainer.test(cfg, packed)
    load_for_evaluation(checkpointer, cfg.MODEL.WEIGHTS, resume=resume)
    return Trainer.test(cfg, checkpointer.model)


def show(title: str, results: dict[str, Any]) -> None:
    """Prints a table of results, once a run."""
    if comm.is_main_process():
        print(f"\n{title}\n{format_results(results)}", flush=True)


if __name__ == "__main__":
    launch_training(main, training_parser(__doc__).parse_args())

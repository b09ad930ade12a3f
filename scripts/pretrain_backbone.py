#!/usr/bin/env python
"""Pre-trains a detector's backbone on images in folders by class, in ReActNet's two steps.

Detectron2's arguments, with --data, --eval-teacher and --num-processes added. Examples:

    pretrain_backbone.py --config-file configs/pretrain/imagenet_bir18.yaml --data imagenet
    pretrain_backbone.py --config-file configs/pretrain/imagenet_bir18.yaml --data imagenet --resume
    pretrain_backbone.py --config-file configs/pretrain/digits_bir18.yaml --data digits

The folder holds train/<class>/ and val/<class>/; "digits" makes the built-in crops of digits. The
backbone is written to OUTPUT_DIR/backbone.pth, which a detector of the same backbone loads as
MODEL.WEIGHTS.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from tabulate import tabulate

from distill.engine import TrainingError, exit_with, launch_training, set_up, training_parser

# Pre-training belongs to one paper; processes that are spawned get this path too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "projects" / "IDaDet"))

from pretraining import BackboneClassifier, Pretraining, evaluate
from pretraining.digit_crops import prepare_digit_crops


def main(args: argparse.Namespace) -> None:
    """Runs one process of a pre-training or an evaluation."""
    try:
        cfg = prepare(args)
        run = None if args.eval_only else Pretraining(cfg, resume=args.resume)
        if args.eval_only:
            show({"evaluation": evaluate(cfg, resume=args.resume)})
        elif args.eval_teacher:
            show({"teacher": run.trainer.test_teacher()})
        if run is not None:
            show(run.train())
    except (ValueError, OSError, ImportError, FloatingPointError, TrainingError) as error:
        exit_with(error)


def prepare(args: argparse.Namespace) -> CfgNode:
    """Builds the config and the run directory, and makes the built-in images where they are named.

    Raises:
        FileNotFoundError, ValueError: in one sentence, if the config is amiss.
    """
    data = ["PRETRAIN.DATA", args.data] if args.data else []
    # It is a classifier that is trained, whatever detector the config is of.
    own = ["MODEL.META_ARCHITECTURE", BackboneClassifier.__name__]
    args.opts = [*data, *(args.opts or []), *own, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    cfg = set_up(args)
    if not cfg.PRETRAIN.DATA:
        raise ValueError(
            "There are no images: give --data the folder that holds train/<class>/ and "
            "val/<class>/, or digits for the built-in ones."
        )
    if cfg.PRETRAIN.DATA == "digits":
        cfg.defrost()
        cfg.PRETRAIN.DATA = str(prepare_digit_crops())
        cfg.freeze()
    return cfg


def show(results: dict[str, dict[str, Any]]) -> None:
    """Prints a table of accuracies in percent, one row a step."""
    if comm.is_main_process():
        rows = [[name, *result["classification"].values()] for name, result in results.items()]
        print("\n" + tabulate(rows, headers=["", "top-1", "top-5"], floatfmt=".2f"), flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of a training with ``--data`` added."""
    parser = training_parser(__doc__)
    parser.add_argument("--data", default="", help="folder of the images, or digits")
    return parser


if __name__ == "__main__":
    launch_training(main, build_parser().parse_args())

"""From a command line to a checked config and a run directory."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from distill.checks import check_config
from distill.config import add_distill_config, check_detector_keys, take_own_architecture
from distill.engine.run_files import write_environment
from distill.engine.summary import file_handlers, kept_for_later, only_in_files, run_summary
from distill.utils.config_files import merge_file, merge_overrides
from distill.utils.distributed import ECHO_STATUS, is_echo
from distill.utils.launch import say_error
from distill.utils.machines import WAIT_FOR_MACHINES

__all__ = ["build_config", "exit_with", "set_up", "training_parser"]


def training_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Returns Detectron2's parser with ``--eval-teacher`` and ``--num-processes`` added."""
    parser = default_argument_parser(epilog)
    parser.add_argument(
        "--eval-teacher", action="store_true", help="evaluate the teacher before training"
    )
    parser.add_argument(
        "--stages",
        action="store_true",
        help="train on DATASETS.PSEUDO alone, then fine-tune on DATASETS.TRAIN",
    )
    parser.add_argument(
        "--num-processes",
        type=int,
        default=1,
        help="number of processes per machine where there is no GPU, or with --num-gpus 0",
    )
    parser.add_argument(
        "--wait-for-machines",
        type=float,
        default=WAIT_FOR_MACHINES,
        metavar="SECONDS",
        help="how long to wait for the other machines of --num-machines",
    )
    return parser


def build_config(args: argparse.Namespace) -> CfgNode:
    """Builds the frozen config of ``--config-file`` and the overrides.

    A config that asks for a GPU where there is none, or with ``--num-gpus 0``, gets the CPU.

    Raises:
        FileNotFoundError: if the config file is missing.
        ValueError: if a key is unknown or a value has the wrong type.
    """
    cfg = get_cfg()
    add_distill_config(cfg)
    if args.config_file:
        merge_file(cfg, args.config_file, key="--config-file")
    opts = args.opts or []
    merge_overrides(cfg, opts, key="KEY VALUE overrides")
    take_own_architecture(cfg, args.config_file, opts, key="--config-file")
    use_gpu = args.num_gpus > 0 and torch.cuda.is_available()
    if cfg.MODEL.DEVICE.startswith("cuda") and not use_gpu:
        cfg.MODEL.DEVICE = "cpu"
    check_detector_keys(cfg)
    cfg.freeze()
    return cfg


def set_up(args: argparse.Namespace) -> CfgNode:
    """Builds the config, checks its datasets, and prepares OUTPUT_DIR and the logs.

    Raises:
        FileNotFoundError, ValueError: in one sentence, if the config or a dataset is amiss.
    """
    with kept_for_later("distill") as said:
        cfg = _checked_config(args)
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="distill")
    # Detectron2 shows some 580 lines of environment and config.
    with only_in_files("detectron2"):
        default_setup(cfg, _loggable(args))
    for record in said:
        logger.handle(record)
    if comm.is_main_process():
        write_environment(Path(cfg.OUTPUT_DIR))
        logger.info("This run:\n%s", run_summary(cfg, training=not args.eval_only))
    return cfg


def _checked_config(args: argparse.Namespace) -> CfgNode:
    cfg = build_config(args)
    # A run that goes on needs what it started from no more.
    resumes = args.resume and (args.stages or Path(cfg.OUTPUT_DIR, "last_checkpoint").exists())
    check_config(
        cfg,
        loads_weights=not resumes,
        training=not args.eval_only,
        # There is nothing to evaluate a teacher on without test datasets.
        compares_teacher=bool(args.eval_teacher and cfg.DATASETS.TEST),
    )
    return cfg


def _loggable(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments without a config file in UTF-16, whose text Detectron2 could not log."""
    try:
        if args.config_file:
            Path(args.config_file).read_text()
    except UnicodeDecodeError:
        return argparse.Namespace(**{**vars(args), "config_file": ""})
    return args


def exit_with(error: Exception) -> None:
    """Ends the program with status 2 and one sentence; the traceback goes to the log file alone.

    Of several processes that fail, the first of each machine speaks; one that fails only because
    another is gone is silent.

    Args:
        error: what went wrong.
    """
    logger = logging.getLogger("distill")
    trace = (type(error), error, error.__traceback__)
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 0, str(error), (), trace)
    for handler in file_handlers(logger):
        handler.handle(record)
    if is_echo(error):
        sys.exit(ECHO_STATUS)
    say_error(str(error))
    sys.exit(2)

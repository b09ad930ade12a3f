"""Label images with a teacher.

Any detector of Detectron2 labels the images of a registered dataset or of a folder; OUTPUT gets
pseudo.json, COCO's JSON with a score and a teacher per box. A run that was stopped, even by force,
goes on with the same command, with any number of processes, and comes to the same file (with the
same number of threads and the same kind of device). Examples:

    generate --config-file teacher.yaml --weights teacher.pth --images photos --output out
    generate --config-file model_zoo://COCO-Detection/retinanet_R_50_FPN_3x.yaml
        --weights model_zoo://COCO-Detection/retinanet_R_50_FPN_3x.yaml
        --dataset coco_2017_unlabeled --output out --num-gpus 8 --batch-size 8
"""

from __future__ import annotations

import argparse
import shutil
import sys

import torch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from distill.labeling.commands.options import (
    add_number,
    check_class_names,
    check_least,
    check_shares,
)
from distill.labeling.generate import generate
from distill.labeling.job import plan_job
from distill.labeling.result import describe_result
from distill.utils.launch import launch_training, say_error
from distill.utils.outputs import check_output_folder

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    reference = "a path or model_zoo://<config path>"
    parser.add_argument("--config-file", required=True, help=f"the teacher's config: {reference}")
    parser.add_argument("--weights", required=True, help=f"its weights: {reference}, or a URL")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="a registered dataset")
    source.add_argument("--images", metavar="FOLDER", help="all images below a folder")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the result")
    add_number(parser, "--score-floor", 0.05, "lowest score of a box")
    parser.add_argument(
        "--thresholds", metavar="FILE", help="drop boxes below these too (see calibrate)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        help="images of a batch; 1, the default, gives exactly the boxes of Detectron2's own "
        "evaluation, more may be faster, and padding changes scores a little",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="of the teacher's forward (default: auto, which is that of its weights)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help="names of the teacher's classes (default: those of its training dataset)",
    )
    parser.add_argument(
        "--tta", action="store_true", help="test-time augmentation, by TEST.AUG of the config"
    )
    parser.add_argument("--force", action="store_true", help="label even an evaluation set")
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="overrides of the config"
    )
    _add_process_arguments(parser)


def _add_process_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("processes")
    add_number(group, "--num-gpus", 1, "GPUs a machine")
    text = "processes a machine where there is no GPU, or with --num-gpus 0"
    add_number(group, "--num-processes", 1, text)
    add_number(group, "--num-machines", 1, "machines, which share DIR")
    add_number(group, "--machine-rank", 0, "this machine's number")
    group.add_argument(
        "--dist-url", default="auto", help="tcp://HOST:PORT of the first of several machines"
    )
    group.add_argument(
        "--num-workers",
        type=int,
        help="processes that read images, for each of these (default: the config's)",
    )


def run(args: argparse.Namespace) -> None:
    """Labels the images, in as many processes as asked for.

    Raises:
        ValueError, OSError: one sentence that names what is wrong.
    """
    check_shares(args, "score_floor")
    check_least(args, 1, "batch_size", "num_processes", "num_machines")
    check_least(args, 0, "num_gpus", "machine_rank", "num_workers")
    if args.machine_rank >= args.num_machines:
        raise ValueError(
            f"--machine-rank is {args.machine_rank}, and --num-machines {args.num_machines}: count "
            "machines from 0."
        )
    check_class_names(args.classes, "--classes")
    check_output_folder(args.output, "--output")
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ValueError("--num-machines needs --dist-url tcp://HOST:PORT, the same on all.")
    names = ("output", "config_file", "weights", "dataset", "images", "classes", "thresholds")
    names += ("score_floor", "batch_size", "precision", "tta", "num_workers", "opts", "force")
    use_gpu = args.num_gpus > 0 and torch.cuda.is_available()
    job = plan_job(**{name: getattr(args, name) for name in names}, use_gpu=use_gpu)
    if job.is_finished():
        # Of a run that was stopped at its very end.
        shutil.rmtree(job.shards, ignore_errors=True)
        print(f"Already done. {describe_result(job.result)}")
        return
    names = ("num_gpus", "num_processes", "num_machines", "machine_rank", "dist_url")
    processes = {name: getattr(args, name) for name in names}
    launch_training(_work, argparse.Namespace(**processes, job=job))


def _work(args: argparse.Namespace) -> None:
    """One process of the run."""
    setup_logger(distributed_rank=comm.get_rank(), name="distill")
    try:
        lines = generate(args.job)
    except (ValueError, OSError) as error:
        if comm.get_world_size() == 1:
            raise
        say_error(str(error))
        sys.exit(2)
    if comm.is_main_process():
        print("\n".join(lines))

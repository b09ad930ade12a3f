"""Measures time and memory of training steps, and the throughput of labeling.

A step is one of the student alone, of the teacher or of the distilled student.

Random weights and images: run it from the repository's root, it needs no data. Examples:

    benchmark.py
    benchmark.py --pair r50 --device cuda --rounds 50 --breakdown
    benchmark.py --pair digits --json output/benchmark.json DISTILL.TADF.CLS_WEIGHT 0
    benchmark.py --pair idadet --image-size 600x1000 --rounds 5 DISTILL.IDaDet.TOPK 100
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import torch

from benchmark.labeling import LABELING, format_labeling, measure_labeling
from benchmark.measure import CLOCKS
from benchmark.pairs import PAIRS
from benchmark.report import format_result, measure_pair
from distill.engine import exit_with
from distill.utils.files import first_line
from distill.utils.outputs import check_output_folder

__all__ = ["image_size", "main", "parser"]


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--pair", choices=[*PAIRS, LABELING, "all"], default="all")
    result.add_argument("--rounds", type=int, help="measured rounds, instead of the pair's")
    result.add_argument("--threads", type=int, default=torch.get_num_threads())
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time")
    result.add_argument(
        "--image-size", type=image_size, help="pixels, 256 or 600x1000 (HxW), instead of the pair's"
    )
    result.add_argument("--batch-size", type=int, help="images, instead of the pair's")
    result.add_argument("--breakdown", action="store_true", help="list parts of a distilled step")
    result.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        help="measure peak memory too, or not; by default as suits the pair",
    )
    result.add_argument("--json", type=Path, help="file for the results")
    result.add_argument("opts", nargs="*", help="KEY VALUE overrides of the config")
    return result


def image_size(text: str) -> tuple[int, int]:
    """Height and width of "600x1000", or of "256" for a square.

    Raises:
        argparse.ArgumentTypeError: if it is neither.
    """
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f'"{text}" is no size in pixels: give 256 or 600x1000')
    return int(sides[0]), int(sides[-1])


def measure(name: str, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measures one pair, or labeling; returns the result and its wording.

    Raises:
        ValueError, FileNotFoundError: if a config or an override is wrong.
    """
    common = {"rounds": args.rounds, "device": args.device, "clock": args.clock}
    changes = {"image_size": args.image_size, "batch_size": args.batch_size}
    if name == LABELING:
        result = measure_labeling(**common, **changes)
        return result, format_labeling(result)
    changes = {key: value for key, value in changes.items() if value}
    overrides = (*PAIRS[name].overrides, *args.opts)
    result = measure_pair(
        name,
        dataclasses.replace(PAIRS[name], overrides=overrides, **changes),
        **common,
        threads=args.threads,
        memory=args.memory,
        breakdown=args.breakdown,
    )
    return result, format_result(result)


def check(args: argparse.Namespace) -> None:
    """Refuses what can't be measured or written, before the first pair is.

    Raises:
        ValueError: one sentence that names the option.
    """
    for option in ("rounds", "threads", "batch_size"):
        value = getattr(args, option)
        if value is not None and value < 1:
            flag = option.replace("_", "-")
            raise ValueError(f"--{flag} is {value}: it must be at least 1.")
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {args.device} can't be used ({first_line(error)}): give cpu or cuda."
        ) from error
    # /dev/stdout will do too.
    if args.json and not args.json.exists():
        check_output_folder(args.json.parent, "--json")
    elif args.json and args.json.is_dir():
        raise ValueError(f"--json {args.json} is a folder: give the name of a file.")


def main(args: argparse.Namespace) -> None:
    """Measures the pairs one by one and prints each as it is done."""
    try:
        check(args)
    except ValueError as error:
        exit_with(error)
    torch.set_num_threads(args.threads)
    results = []
    for name in [*PAIRS, LABELING] if args.pair == "all" else [args.pair]:
        try:
            result, text = measure(name, args)
        except (ValueError, OSError) as error:
            exit_with(error)
        results.append(result)
        print(text, end="\n\n", flush=True)
    if args.json:
        report = {
            "device": torch.cuda.get_device_name() if args.device != "cpu" else "cpu",
            "threads": args.threads,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "pairs": results,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")

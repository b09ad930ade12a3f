"""Merge what several teachers found in the same images into one file.

Class by class, boxes of different teachers on the same object become one: with nms that of the
highest score, with wbf a mean weighted by score (weighted box fusion), with soft-nms all stay, but
lower in score the more they overlap better ones. A box' teacher is then all that found it. Boxes
of different classes on the same object are a conflict, won by the higher score, unless one teacher
found both. The sequence of the files doesn't matter.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

from tabulate import tabulate

from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.aliases import Aliases
from distill.labeling.commands.options import (
    add_class_options,
    add_file,
    add_number,
    check_class_names,
    check_output,
    check_shares,
)
from distill.labeling.left_out import left_out
from distill.labeling.merge import METHODS, Merged, MergeSettings, merge
from distill.labeling.pool import TeacherInput
from distill.labeling.sources import files_of, load_labels
from distill.utils.outputs import is_same_file

__all__ = ["add_arguments", "run"]

_NONE = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("inputs", nargs="+", metavar="JSON", help="pseudo labels of a teacher")
    add_file(parser, "--output", "JSON", "the merged file")
    add_class_options(parser)
    parser.add_argument(
        "--method", choices=tuple(METHODS), default="nms", help="how to fuse boxes (default: nms)"
    )
    parser.add_argument(
        "--iou",
        type=float,
        help="boxes of a class that overlap by more are one; not for soft-nms "
        f"(default: {METHODS['nms']} for nms, {METHODS['wbf']} for wbf)",
    )
    parser.add_argument(
        "--thresholds",
        nargs="+",
        metavar="JSON",
        help="one file of calibrate for each input, by its own class names; - for none",
    )
    text = "leave out boxes of lower scores: of inputs without thresholds, and after fusion"
    add_number(parser, "--score-threshold", 0.05, text, "SCORE")
    text = "boxes of different classes and teachers that overlap by more are a conflict"
    add_number(parser, "--conflict-iou", 0.7, text, "IOU")
    parser.add_argument(
        "--keep-conflicts", action="store_true", help="count conflicts, but keep both boxes"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the merged file and prints where its boxes come from.

    Raises:
        ValueError: an option or a file is wrong, in one sentence.
        OSError: a file is missing or can't be written.
    """
    check_shares(args, "iou", "score_threshold", "conflict_iou")
    check_class_names(args.classes, "--classes")
    check_output(args.output, [*args.inputs, *(args.thresholds or ()), args.aliases])
    _refuse_repeated(args.inputs)
    if args.method == "soft-nms" and args.iou is not None:
        raise ValueError("--iou means nothing to soft-nms: leave it out, or choose nms or wbf.")
    aliases = Aliases.load(args.aliases) if args.aliases else None
    settings = MergeSettings(
        args.method, args.iou, args.score_threshold, args.conflict_iou, args.keep_conflicts
    )
    inputs = _inputs(args)
    merged = merge(inputs, settings, aliases=aliases, classes=args.classes)
    merged.file.save(args.output)
    print(_summary(merged))
    if dropped := left_out(*(x.file for x in inputs)):
        print(dropped)
    print(f"Written to {args.output}.")


def _refuse_repeated(paths: Sequence[str]) -> None:
    for first, second in itertools.combinations(paths, 2):
        if any(is_same_file(x, y) for x in files_of(first) for y in files_of(second)):
            raise ValueError(f"{second} is there twice, as {first} is the same file: give it once.")


def _inputs(args: argparse.Namespace) -> list[TeacherInput]:
    paths = args.thresholds or [_NONE] * len(args.inputs)
    if len(paths) != len(args.inputs):
        raise ValueError(
            f"--thresholds has {len(paths)} files for {len(args.inputs)} inputs: give one for "
            f"each, in their sequence, and {_NONE} where there is none."
        )
    thresholds = [None if path == _NONE else Thresholds.load(path) for path in paths]
    files = [load_labels(path, option="merge") for path in args.inputs]
    columns = (args.inputs, files, thresholds)
    return [TeacherInput(*values) for values in zip(*columns, strict=True)]


def _summary(merged: Merged) -> str:
    """What each teacher brought, who knows which class, and the conflicts."""
    counts = merged.file.info["counts"]
    boxes = merged.file.labels.class_counts(len(merged.teachers_of)).tolist()
    parts = [
        tabulate([row.values() for row in merged.inputs], headers=merged.inputs[0].keys()),
        tabulate(
            [
                (name, ", ".join(teachers) or "nobody", count)
                for (name, teachers), count in zip(merged.teachers_of.items(), boxes, strict=True)
            ],
            headers=["class", "known by", "boxes"],
            disable_numparse=True,
        ),
    ]
    if merged.conflicts:
        parts.append(
            tabulate(
                [row.values() for row in merged.conflicts],
                headers=["conflict won by", "over", "times"],
                disable_numparse=True,
            )
        )
    total = sum(row["count"] for row in merged.conflicts)
    verb = "kept" if merged.file.info["merge"]["keep_conflicts"] else "resolved"
    parts.append(f"{counts['boxes']} boxes in {counts['images']} images; {total} conflicts {verb}.")
    return "\n\n".join(parts)

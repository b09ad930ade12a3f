"""Fill labels that cover only some classes with pseudo labels of the others.

Labels are right, and complete in their own classes: what teachers find of these classes is left
out, and so are boxes of other classes on top of a label. Without this, training would take objects
of the missing classes for background. Labels keep their masks, keypoints, crowds and ids; pseudo
labels have none of these, so that boxes alone can be trained on the file.
"""

from __future__ import annotations

import argparse

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
from distill.labeling.complete import Completed, complete
from distill.labeling.left_out import has_any, left_out
from distill.labeling.pool import TeacherInput
from distill.labeling.sources import load_labels

__all__ = ["add_arguments", "run"]

_TITLES = {
    "class": "class",
    "labels": "labels",
    "pseudo": "pseudo",
    "added": "added",
    "found": "dropped: on its label",
    "beyond": "dropped: class labeled",
    "conflict": "dropped: on another label",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    text = "labels of some classes: a registered dataset, or a COCO JSON"
    add_file(parser, "--labels", "DATASET", text)
    add_file(parser, "--pseudo", "JSON", "pseudo labels of at least their images")
    add_file(parser, "--output", "JSON", "the completed file")
    add_class_options(parser)
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--thresholds", metavar="JSON", help="a file of calibrate")
    text = "leave out pseudo labels of lower scores"
    add_number(limits, "--score-threshold", 0.5, text, "SCORE")
    text = "a pseudo label that overlaps a label of its class by more is that"
    add_number(parser, "--iou", 0.5, text)
    text = "leave out one that overlaps a label of another class by more"
    add_number(parser, "--conflict-iou", 0.7, text, "IOU")


def run(args: argparse.Namespace) -> None:
    """Writes the completed file and prints what was added and dropped.

    Raises:
        ValueError: an option or a file is wrong, in one sentence.
        OSError: a file is missing or can't be written.
    """
    check_shares(args, "iou", "score_threshold", "conflict_iou")
    check_class_names(args.classes, "--classes")
    check_output(args.output, [args.labels, args.pseudo, args.thresholds, args.aliases])
    pseudo = TeacherInput(
        args.pseudo,
        load_labels(args.pseudo, option="--pseudo"),
        Thresholds.load(args.thresholds) if args.thresholds else Thresholds(args.score_threshold),
    )
    labels = load_labels(args.labels)
    completed = complete(
        labels,
        pseudo,
        name=args.labels,
        iou=args.iou,
        conflict_iou=args.conflict_iou,
        aliases=Aliases.load(args.aliases) if args.aliases else None,
        classes=args.classes,
    )
    completed.file.save(args.output)
    print(_summary(completed))
    if dropped := left_out(pseudo.file):
        print(f"Of the pseudo labels: {dropped}")
    if masks := [x for x in ("segmentation", "keypoints") if has_any(labels, x)]:
        print(
            f"Labels keep their {' and '.join(masks)}, and pseudo labels have none: train boxes "
            "alone on the file."
        )
    print(f"Written to {args.output}.")


def _summary(completed: Completed) -> str:
    rows = [[str(row[key]) for key in _TITLES] for row in completed.classes]
    counts = completed.file.info["counts"]
    return (
        tabulate(rows, headers=_TITLES.values(), disable_numparse=True)
        + f"\n\n{counts['labels']} labels and {counts['added']} pseudo labels in "
        f"{counts['images']} images."
    )

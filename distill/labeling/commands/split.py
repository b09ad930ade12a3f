"""Draw shares of a dataset's images, fixed by a seed, and write them with their labels.

An image is drawn whether it has labels or not, and keeps all that is known of it: boxes, crowds,
masks, keypoints, ids. A share is rounded to whole images, at least one. For one seed the
smaller shares are inside the larger ones, and the same command writes the same bytes.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from tabulate import tabulate

from distill.data.pseudo.file import PseudoFile
from distill.data.registration import file_stem
from distill.labeling.commands.options import check_output
from distill.labeling.sources import load_labels
from distill.labeling.split import check_share, draw_images, labeled_subset, unlabeled_rest
from distill.utils.outputs import check_output_folder

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--labels",
        required=True,
        metavar="DATASET",
        help="a registered dataset, a COCO JSON, or JSON@FOLDER with the folder of its images",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="gets NAME_Ppct_seedK.json of each share P and seed K",
    )
    parser.add_argument(
        "--percent",
        type=float,
        nargs="+",
        default=[1.0, 2.0, 5.0, 10.0, 20.0],
        metavar="P",
        help="shares of the images (default: 1 2 5 10 20)",
    )
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], metavar="K", help="seeds (default: 0)"
    )
    parser.add_argument(
        "--rest",
        action="store_true",
        help="also write the other images, without labels: NAME_rest_Ppct_seedK.json",
    )


def run(args: argparse.Namespace) -> None:
    """Writes the files and prints a table of them.

    Raises:
        ValueError: an option or the labels are wrong, in one sentence.
        OSError: a file is missing or can't be written.
    """
    _check(args)
    labels = load_labels(args.labels)
    if not len(labels.labels):
        raise ValueError(f"{args.labels} has no box: give labels as --labels.")
    # All are made before the first is written, so that a bad option leaves nothing behind.
    subsets, rests = _draw(labels, args)
    for name, file in (*subsets.items(), *rests.items()):
        file.save(args.output / name)
    missing = {name: _missing_classes(file) for name, file in subsets.items()}
    rows = [
        [name, len(file.images), len(file.labels), ", ".join(missing.get(name, ())) or "-"]
        for name, file in (*subsets.items(), *rests.items())
    ]
    print(tabulate(rows, ["file", "images", "boxes", "classes without a box"]))
    print(f"\nWritten to {args.output}.")
    if short := [name for name, classes in missing.items() if classes]:
        print(f"Warning: no box of some classes in {', '.join(short)}.")


def _check(args: argparse.Namespace) -> None:
    """What is wrong with the options, before a label is read."""
    for percent, seed in itertools.product(args.percent, args.seed):
        check_share(percent, seed)
    check_output_folder(args.output, "--output")
    names = [name for kind in ("", "rest_") for name in _names(args, kind)]
    if len(set(names)) < len(names):
        raise ValueError("--percent or --seed has a number twice, to six digits: give each once.")
    for name in names:
        check_output(args.output / name, [args.labels])


def _names(args: argparse.Namespace, kind: str) -> list[str]:
    """The names of the files of all seeds and shares."""
    return [
        f"{file_stem(args.labels)}_{kind}{percent:g}pct_seed{seed}.json"
        for seed, percent in itertools.product(args.seed, args.percent)
    ]


def _draw(
    labels: PseudoFile, args: argparse.Namespace
) -> tuple[dict[str, PseudoFile], dict[str, PseudoFile]]:
    """By file name, the images with labels and, where asked for, the others."""
    name = file_stem(args.labels)
    subsets, rests = {}, {}
    names = zip(_names(args, ""), _names(args, "rest_"), strict=True)
    for seed, percent in itertools.product(args.seed, args.percent):
        drawn = draw_images(labels, percent, seed)
        header = {"source": name, "percent": percent, "seed": seed}
        own, other = next(names)
        subsets[own] = labeled_subset(labels, drawn, **header)
        if args.rest:
            rests[other] = unlabeled_rest(labels, drawn, **header)
    return subsets, rests


def _missing_classes(file: PseudoFile) -> list[str]:
    boxes = file.labels.class_counts(len(file.class_names))
    return [name for name, number in zip(file.class_names, boxes, strict=True) if not number]

"""Options that merge and complete share."""

from __future__ import annotations

import argparse

__all__ = ["add_class_arguments", "check_shares"]


def add_class_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name and sort classes.

    Args:
        parser: the command's.
    """
    parser.add_argument(
        "--aliases",
        metavar="YAML",
        help="lines `name: [other name, ...]` of classes that are the same",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="the classes of the output and their order, by name or by a dataset that has them; "
        "boxes of others are left out (default: all, in the order of a file that has all, else "
        "by name)",
    )


def check_shares(args: argparse.Namespace) -> None:
    """Verifies that IoUs and scores are between 0 and 1.

    Args:
        args: the command line.

    Raises:
        ValueError: one sentence with the first option that is not.
    """
    for option in ("iou", "score_threshold", "conflict_iou"):
        value = getattr(args, option)
        if value is not None and not 0 <= value <= 1:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} is {value}: give a number from 0 to 1.")

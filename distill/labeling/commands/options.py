"""Options that several commands have, and what their values must be."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distill.labeling.sources import files_of
from distill.utils.outputs import check_output_file

__all__ = [
    "add_class_options",
    "add_file",
    "add_number",
    "check_class_names",
    "check_least",
    "check_output",
    "check_shares",
]


def add_file(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str) -> None:
    """Adds an option without which there is nothing to do.

    Args:
        parser: the command's.
        flag: the option's name.
        metavar: what it takes.
        text: its help.
    """
    parser.add_argument(flag, required=True, metavar=metavar, help=text)


def add_number(
    parser: Any, flag: str, default: float, text: str, metavar: str | None = None
) -> None:
    """Adds an option that takes a number, of the type of its default.

    Args:
        parser: the command's, or a group of its options.
        flag: the option's name.
        default: its value if it is not given.
        text: its help, without the default.
        metavar: what it takes; by default its name in capitals.
    """
    described = f"{text} (default: {default})"
    parser.add_argument(flag, type=type(default), default=default, metavar=metavar, help=described)


def add_class_options(parser: argparse.ArgumentParser) -> None:
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


def check_shares(args: argparse.Namespace, *options: str) -> None:
    """Verifies that IoUs and scores are between 0 and 1.

    Args:
        args: the command line.
        options: names of the options, as attributes of it.

    Raises:
        ValueError: one sentence with the first option that is not.
    """
    for option in options:
        value = getattr(args, option)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{_flag(option)} is {value}: give a number from 0 to 1.")


def check_least(args: argparse.Namespace, least: int, *options: str) -> None:
    """Verifies that numbers are not too small.

    Args:
        args: the command line.
        least: the smallest number that is allowed.
        options: names of the options, as attributes of it.

    Raises:
        ValueError: one sentence with the first option that is too small.
    """
    for option in options:
        value = getattr(args, option)
        if value is not None and value < least:
            raise ValueError(f"{_flag(option)} is {value}: it must be at least {least}.")


def check_class_names(names: Sequence[str] | None, option: str) -> None:
    """Verifies that names can be those of different classes.

    Args:
        names: what is given; None for nothing.
        option: the option's name.

    Raises:
        ValueError: one sentence, if one is empty or there twice.
    """
    names = [name.strip() for name in names or ()]
    if "" in names:
        raise ValueError(f"{option} has an empty name: give every class a name.")
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise ValueError(f"{option} has {twice} twice: give every class once.")


def check_output(path: str | Path, sources: Iterable[str | Path | None]) -> None:
    """Verifies that a command's file can be written, and is none of those that it reads.

    Args:
        path: the file.
        sources: what is read: files, or datasets; None is nothing.

    Raises:
        ValueError: one sentence, if it can't.
    """
    read = [file for source in sources if source is not None for file in files_of(str(source))]
    check_output_file(path, "--output", read)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"

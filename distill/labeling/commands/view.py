"""Write an HTML page to look through images with boxes, scores and true labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from distill.data.registration import is_json_dataset, json_path
from distill.labeling.commands.options import add_number, check_least, check_output, check_shares
from distill.labeling.sources import load_labels, load_pseudo
from distill.labeling.view import write_view

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--pseudo", type=Path, required=True, metavar="P.json", help="the boxes")
    parser.add_argument(
        "--labels", metavar="DATASET", help="true labels: a registered dataset, or a COCO file"
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="FOLDER", help="of the images, if they were moved"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PAGE",
        help="an .html file, or a folder for it (default: beside P.json)",
    )
    add_number(parser, "--num-images", 200, "shown", "N")
    which = parser.add_mutually_exclusive_group()
    add_number(which, "--seed", 0, "draws the images", "K")
    which.add_argument("--first", action="store_true", help="the first images, undrawn")
    add_number(parser, "--score-threshold", 0.5, "where the page's slider starts", "T")
    parser.add_argument(
        "--embed", action="store_true", help="put the images into the page, so that it can be moved"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the page.

    Raises:
        FileNotFoundError: a file is missing, or all images are.
        ValueError: an option or a file is wrong.
    """
    check_least(args, 1, "num_images")
    check_least(args, 0, "seed")
    check_shares(args, "score_threshold")
    path = json_path(str(args.pseudo)) if is_json_dataset(str(args.pseudo)) else args.pseudo
    page = _page(args.output, path)
    check_output(page, [args.pseudo, args.labels])
    pseudo = load_pseudo(args.pseudo)
    labels = load_labels(args.labels) if args.labels else None
    try:
        view = write_view(
            pseudo,
            page,
            title=path.name,
            labels=labels,
            image_root=args.image_root,
            num_images=args.num_images,
            seed=None if args.first else args.seed,
            threshold=args.score_threshold,
            embed=args.embed,
        )
    except ValueError as error:
        given = f"{args.pseudo} and {args.labels}" if args.labels else args.pseudo
        raise ValueError(f"{given}: {error}") from error
    number = f", labels: {view.labels}" if args.labels else ""
    print(f"images: {view.images} of {len(pseudo.images)}, boxes: {view.boxes}{number}")
    if view.missing:
        root = args.image_root or pseudo.info["image_root"]
        print(f"images missing in {root}: {view.missing} (--image-root gives another folder)")
    print(f"page: {view.page}")


def _page(output: Path | None, pseudo: Path) -> Path:
    if output is not None and output.suffix.lower() in (".html", ".htm"):
        return output
    return (output or pseudo.parent) / f"{pseudo.stem}.html"

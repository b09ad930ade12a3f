"""Write an HTML page to look through images with boxes, scores and true labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from distill.data.pseudo.file import PseudoFile
from distill.labeling.sources import load_labels
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
    parser.add_argument(
        "--num-images", type=int, default=200, metavar="N", help="shown (default: 200)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--seed", type=int, default=0, metavar="K", help="draws the images (default: 0)"
    )
    which.add_argument("--first", action="store_true", help="the first images, undrawn")
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.5,
        metavar="T",
        help="where the page's slider starts (default: 0.5)",
    )
    parser.add_argument(
        "--embed", action="store_true", help="put the images into the page, so that it can be moved"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the page.

    Raises:
        FileNotFoundError: a file is missing, or all images are.
        ValueError: an option or a file is wrong.
    """
    if args.num_images < 1:
        raise ValueError(f"--num-images is {args.num_images}: it must be at least 1.")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}: it must not be negative.")
    if not 0 <= args.score_threshold <= 1:
        raise ValueError(f"--score-threshold is {args.score_threshold}: it must be in 0..1.")
    pseudo = PseudoFile.load(args.pseudo)
    view = write_view(
        pseudo,
        _page(args.output, args.pseudo),
        title=args.pseudo.name,
        labels=load_labels(args.labels) if args.labels else None,
        image_root=args.image_root,
        num_images=args.num_images,
        seed=None if args.first else args.seed,
        threshold=args.score_threshold,
        embed=args.embed,
    )
    labels = f", labels: {view.labels}" if args.labels else ""
    print(f"images: {view.images} of {len(pseudo.images)}, boxes: {view.boxes}{labels}")
    if view.missing:
        root = args.image_root or pseudo.info["image_root"]
        print(f"images missing in {root}: {view.missing} (--image-root gives another folder)")
    print(f"page: {view.page}")


def _page(output: Path | None, pseudo: Path) -> Path:
    if output is not None and output.suffix.lower() in (".html", ".htm"):
        return output
    return (output or pseudo.parent) / f"{pseudo.stem}.html"

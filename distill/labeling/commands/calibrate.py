"""Choose a score threshold for each class on labeled images.

A class takes the threshold of its best F-beta, in the middle between two scores and the highest of
equally good ones; one of few right boxes takes the best threshold of all classes together. Then
thresholds are lowered where a class keeps too few boxes in the whole file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tabulate import tabulate

from distill.data.pseudo.file import PseudoFile
from distill.data.registration import is_json_dataset, json_path
from distill.labeling.calibration import Calibration, calibrate, check_calibration
from distill.labeling.calibration_plot import plot_calibration
from distill.labeling.commands.options import add_file, add_number, check_output
from distill.labeling.score_curve import Quality
from distill.labeling.sources import load_labels, load_pseudo

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_file(parser, "--pseudo", "JSON", "pseudo labels, down to low scores")
    text = "true labels of some or all of the images: a registered dataset, or a COCO JSON"
    add_file(parser, "--labels", "DATASET", text)
    text = "the thresholds file (.json), or a folder for thresholds.json; a plot is put beside"
    add_file(parser, "--output", "PATH", text)
    add_number(parser, "--beta", 1.0, "weight of recall in F-beta")
    add_number(parser, "--iou", 0.5, "lowest IoU of a right box")
    text = "a class with fewer right boxes takes all classes' best threshold"
    add_number(parser, "--min-boxes", 10, text, "N")
    text = "lower a class' threshold until it keeps N boxes in the whole file"
    add_number(parser, "--min-kept", 10, text, "N")
    parser.add_argument(
        "--floor",
        type=float,
        metavar="SCORE",
        help="the lowest threshold (default: the score floor of the pseudo labels)",
    )


def run(args: argparse.Namespace) -> None:
    """Writes a thresholds file and its plot, and prints a table.

    Raises:
        ValueError: an option or a file is wrong, in one sentence.
        OSError: a file is missing or can't be written.
    """
    path = Path(args.output)
    path = path if path.suffix == ".json" else path / "thresholds.json"
    check_calibration(args.beta, args.iou, args.floor, args.min_boxes, args.min_kept)
    for written in (path, path.with_suffix(".png")):
        check_output(written, [args.pseudo, args.labels])
    pseudo, truth = load_pseudo(args.pseudo), load_labels(args.labels)
    options = {
        name: getattr(args, name) for name in ("beta", "iou", "min_boxes", "min_kept", "floor")
    }
    try:
        calibration = calibrate(pseudo, truth, **options)
    except ValueError as error:
        raise ValueError(f"--pseudo {args.pseudo} and --labels {args.labels}: {error}") from error
    calibration.thresholds.save(path, _header(args, calibration))
    plot_calibration(calibration, path.with_suffix(".png"))
    print(_summary(calibration, pseudo, truth))
    print(f"Written to {path}, and plotted in {path.with_suffix('.png')}.")


def _header(args: argparse.Namespace, calibration: Calibration) -> dict[str, object]:
    # The name alone of a file: folders differ between machines.
    names = {"pseudo": Path(args.pseudo).name, "labels": _short(args.labels)}
    options = {key: getattr(args, key) for key in ("beta", "iou", "min_boxes", "min_kept")}
    options["floor"] = calibration.floor
    total = calibration.total
    counts = {"images": calibration.num_images, "objects": total.objects, "boxes": total.boxes}
    return {"description": "Score thresholds", **names, **options, "counts": counts}


def _short(source: str) -> str:
    return json_path(source).name if is_json_dataset(source) else source


def _summary(calibration: Calibration, pseudo: PseudoFile, truth: PseudoFile) -> str:
    """The table, and what else is to know."""
    images = calibration.num_images
    rows = [
        _row(x.name, x.threshold, x.quality, images, x.kept, x.reason) for x in calibration.classes
    ]
    kept = sum(x.kept for x in calibration.classes)
    pooled, default = calibration.pooled.at(calibration.default), calibration.default
    rows.append(_row("all", None, calibration.total, images, kept, ""))
    rows.append(_row("all, at one threshold", default, pooled, images, None, "best of all classes"))
    headers = ["class", "objects", "threshold", "precision", "recall", "F-beta"]
    headers += ["boxes per image", "kept in the file", "threshold is"]
    alignment = ["left"] + ["right"] * 7 + ["left"]
    lines = [
        tabulate(rows, headers, colalign=alignment, disable_numparse=True),
        "",
        f"Compared in {images} images of {len(pseudo.images)} with pseudo labels and "
        f"{len(truth.images)} with labels.",
    ]
    datasets = {pseudo.info["dataset"], truth.info["dataset"]} - {None}
    if len(datasets) > 1:
        lines.append(
            f"They are of different datasets, {' and '.join(sorted(datasets))}: images are the "
            "same whose files have the same name or content."
        )
    if calibration.unlabeled:
        lines.append(
            f"Without labels: {', '.join(calibration.unlabeled)}. They take the default threshold, "
            f"{default:g}."
        )
    if missing := [name for name in truth.class_names if name not in pseudo.class_names]:
        lines.append(f"Labels that no pseudo label can match: {', '.join(missing)}.")
    return "\n".join(lines)


def _row(
    name: str, threshold: float | None, quality: Quality, images: int, kept: int | None, why: str
) -> list[str]:
    shares = (quality.precision, quality.recall, quality.f_beta)
    return [
        name,
        str(quality.objects),
        "-" if threshold is None else f"{threshold:.4f}",
        *("-" if share is None else f"{share:.3f}" for share in shares),
        f"{quality.boxes / images:.2f}",
        "-" if kept is None else str(kept),
        why,
    ]

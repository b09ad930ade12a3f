#!/usr/bin/env python
"""Exports a trained student: as a plain checkpoint, or packed to one bit a 1-bit weight.

The config may be a student's own or that of its distillation; no teacher is built. Examples:

    export_student.py --config-file C.yaml --weights model_final.pth --output student.safetensors
    export_student.py --config-file C.yaml --weights W.pth --output student.pth --format plain
    train_net.py --config-file C.yaml --eval-only MODEL.WEIGHTS student.safetensors

A packed file is loaded in Python by distill.deploy.load_packed(path).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from distill.checks.architecture import check_detector
from distill.config import student_config
from distill.deploy import build_student, export_packed, export_plain
from distill.deploy.packed_file import SUFFIX
from distill.engine import build_config, exit_with
from distill.utils.outputs import check_output_file


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--config-file", required=True, help="of the student or its distillation")
    result.add_argument("--weights", required=True, help="the trained checkpoint")
    result.add_argument("--output", required=True, type=Path, help="file to write")
    result.add_argument("--format", choices=("packed", "plain"), default="packed")
    result.add_argument(
        "opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the config, at the end"
    )
    # Exporting is the CPU's work, whatever the config was trained on.
    result.set_defaults(num_gpus=0)
    return result


def main(args: argparse.Namespace) -> None:
    """Writes the file and says what it holds."""
    try:
        check_output(args)
        cfg = build_config(args)
        check_detector(student_config(cfg))
        model = build_student(cfg, args.weights)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        if args.format == "packed":
            print(export_packed(model, cfg, args.output))
        else:
            export_plain(model, args.output)
    except (ValueError, OSError) as error:
        exit_with(error)
    print(f"Wrote {args.output}")


def check_output(args: argparse.Namespace) -> None:
    """Refuses a file that can't be written or found again, before anything is built.

    Raises:
        ValueError: one sentence that names --output.
    """
    packed = args.format == "packed"
    if packed != (args.output.suffix == SUFFIX):
        wanted = f"end in {SUFFIX}" if packed else "end in .pth"
        raise ValueError(
            f"--output {args.output} would not be found to be {args.format}: let its name {wanted}."
        )
    check_output_file(args.output, "--output", [args.weights, args.config_file])


if __name__ == "__main__":
    main(parser().parse_args())

#!/usr/bin/env python
"""Counts a detector's parameters, its size and its operations, 1-bit and real ones apart.

Of a config with a teacher, the student is counted. No weights and no data are needed. Examples:

    analyze.py --config-file student.yaml --input-size 600x1000
    analyze.py --config-file ssd.yaml --input-size 300x300 --json
    analyze.py --config-file student.yaml --input-size 600x1000 MODEL.ROI_HEADS.NUM_CLASSES 80

OPs = MACs(1-bit) / 64 + MACs(real); size = 1 bit a 1-bit weight and 4 bytes a real parameter, in
MB of 10^6 bytes. Convolutions and fully connected layers are counted. The image is taken as it is,
without the detector's padding.
"""

from __future__ import annotations

import argparse
import json
import re
import sys

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from distill.build import said_of_keys
from distill.config import student_config
from distill.deploy import count_costs, format_costs
from distill.deploy.analysis import Costs
from distill.engine import build_config, exit_with
from distill.utils.files import first_line


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--config-file", required=True, help="of a detector, or a student")
    result.add_argument("--input-size", required=True, metavar="HxW", help="in pixels")
    result.add_argument("--num-proposals", type=int, default=1000, help="boxes of the ROI head")
    result.add_argument("--json", action="store_true", help="print JSON instead of tables")
    result.add_argument("opts", nargs="*", help="KEY VALUE overrides of the config")
    result.set_defaults(num_gpus=0)
    return result


def main(args: argparse.Namespace) -> None:
    """Counts one detector and prints the result."""
    try:
        size = parse_size(args.input_size)
        if args.num_proposals < 1:
            raise ValueError(f"--num-proposals is {args.num_proposals}: it must be at least 1.")
        detector = build_detector(student_config(build_config(args)))
        costs = count(detector, size, args.num_proposals)
    except (ValueError, OSError) as error:
        exit_with(error)
    if not args.json:
        print(format_costs(costs))
        return
    print(json.dumps(costs.as_dict(), indent=2))
    if costs.uncounted:
        print(f"not counted: {', '.join(costs.uncounted)}", file=sys.stderr)


def count(detector: nn.Module, size: tuple[int, int], num_proposals: int) -> Costs:
    """Counts the detector on an image of a size.

    Raises:
        ValueError: one sentence, if it can't take images of it.
    """
    try:
        return count_costs(detector, size, num_proposals)
    except RuntimeError as error:  # of torch's operators
        text = f"--input-size {size[0]}x{size[1]} can't be run by the detector"
        raise ValueError(f"{text} ({first_line(error)}): give another size.") from error


def parse_size(text: str) -> tuple[int, int]:
    """Reads height and width from HxW."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"--input-size {text!r} is no HEIGHTxWIDTH in pixels, such as 600x1000.")
    return int(match[1]), int(match[2])


def build_detector(cfg: CfgNode) -> nn.Module:
    """Builds the detector with random weights."""
    with said_of_keys():
        return build_model(cfg)


if __name__ == "__main__":
    main(parser().parse_args())

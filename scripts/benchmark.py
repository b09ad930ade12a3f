#!/usr/bin/env python
"""Measures time and memory of training steps, and the throughput of labeling: see --help."""

from benchmark.command import main, parser

if __name__ == "__main__":
    main(parser().parse_args())

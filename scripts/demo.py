#!/usr/bin/env python
"""Trains a teacher, a student alone and the same student distilled, and makes a page of them.

Takes about eight minutes on two cores; called again after an interruption, it continues. The runs
are those of projects/TADF/plans/demo.yaml.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from experiments import Plan, RunFailed, format_tables, load_plan, run_plan
from experiments.demo import write_report

from distill.utils.outputs import check_output_folder

ROOT = Path(__file__).resolve().parents[1]
# Enough to go through every step once.
FAST = {
    "SOLVER.MAX_ITER": "4",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.CHECKPOINT_PERIOD": "2",
    "TEST.EVAL_PERIOD": "0",
    "DATASETS.TEST": "('digits_test',)",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "4",
}


def main(arguments: list[str] | None = None) -> None:
    """Trains what is missing, then writes results.json and index.html."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="output/demo", help="folder of runs and page")
    parser.add_argument("--fast", action="store_true", help="a few iterations, to try the demo")
    args = parser.parse_args(arguments)
    output = Path(args.output).resolve()
    # The configs name each other relative to the repository.
    os.chdir(ROOT)
    if output.is_relative_to(ROOT):
        output = output.relative_to(ROOT)
    try:
        check_output_folder(output, "--output")
        plan = load_plan("projects/TADF/plans/demo.yaml", output)
        plan = shorten(plan) if args.fast else plan
        # The teacher first and alone, with all cores; then the students share them.
        run_plan(plan, plan.select(["teacher"]), replace_changed=True)
        run_plan(plan, plan.select(), parallel=2, replace_changed=True)
        page = write_report(plan, ROOT / "scripts" / "demo_page.html")
    except (RunFailed, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    print(f"\n{format_tables(plan)}\n\nThe page is {page.resolve()}")


def shorten(plan: Plan) -> Plan:
    """Returns the plan with a few iterations on small batches."""
    opts = tuple(text for pair in FAST.items() for text in pair)
    runs = {k: dataclasses.replace(run, opts=run.opts + opts) for k, run in plan.runs.items()}
    return dataclasses.replace(plan, runs=runs)


if __name__ == "__main__":
    main()

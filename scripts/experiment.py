#!/usr/bin/env python
"""Runs the trainings of a plan, and makes tables and records of them.

    experiment.py run plan.yaml --only student_tadf --seeds 0 1 --jobs 2
    experiment.py table plan.yaml
    experiment.py export plan.yaml projects/TADF/results

What is finished is skipped and what was interrupted is continued. scripts/experiments/plan.py says
how a plan is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import RunFailed, export_runs, format_tables, load_plan, run_plan


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what is missing")
    run.add_argument("plan", help="a YAML file")
    run.add_argument("--only", nargs="+", metavar="NAME", help="these runs, and what they need")
    run.add_argument("--seeds", nargs="+", type=int, metavar="K", help="these seeds")
    run.add_argument("--jobs", type=int, default=1, help="trainings at once (default: 1)")
    run.add_argument(
        "--replace-changed",
        action="store_true",
        help="train anew where a folder holds a run of another config",
    )
    table = commands.add_parser("table", help="print markdown: mean ± standard deviation of seeds")
    table.add_argument("plan", help="a YAML file")
    table.add_argument("--dataset", help="a test dataset; by default the first of each run")
    export = commands.add_parser("export", help="copy configs, results and logs, no weights")
    export.add_argument("plan", help="a YAML file")
    export.add_argument("destination", type=Path, help="gets NAME/seedK/ of each finished run")
    for command in (run, table, export):
        command.add_argument("--output", help="folder of the runs, instead of the plan's")
    return parser.parse_args()


def main() -> None:
    """Carries out one command."""
    args = parse_arguments()
    try:
        plan = load_plan(args.plan, args.output)
        if args.command == "run":
            runs = plan.select(args.only, args.seeds)
            run_plan(plan, runs, parallel=args.jobs, replace_changed=args.replace_changed)
        elif args.command == "table":
            print(format_tables(plan, args.dataset))
        else:
            for folder in export_runs(plan, args.destination):
                print(folder)
    except (RunFailed, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

#!/usr/bin/env python
"""Runs the trainings of a plan, records what they came to, and makes tables of it.

    experiment.py run plan.yaml --only student_tadf --seeds 0 1 --jobs 2
    experiment.py table plan.yaml
    experiment.py record projects/TADF/plans/results.yaml
    experiment.py tables projects/TADF --write

What is finished is skipped and what was interrupted is continued. scripts/experiments/plan.py says
how a plan is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import (
    RunFailed,
    format_tables,
    load_plan,
    record_runs,
    run_plan,
    tables_in,
    update_tables,
)

from distill.utils.outputs import check_output_folder


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
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
    table.add_argument("--dataset", help="a test dataset; by default the plan's columns")
    record = commands.add_parser(
        "record", aliases=["export"], help="add the finished runs to results.csv"
    )
    record.add_argument("plan", help="a YAML file")
    record.add_argument(
        "folder", type=Path, nargs="?", help="of results.csv (default: above the plan's folder)"
    )
    tables = commands.add_parser("tables", help="print the tables of pages, from results.csv")
    tables.add_argument("pages", type=Path, nargs="+", help="Markdown files, or folders of such")
    tables.add_argument("--write", action="store_true", help="replace them in the pages")
    for command in (run, table, record):
        command.add_argument("--output", help="folder of the runs, instead of the plan's")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Carries out one command."""
    args = parse_arguments(arguments)
    try:
        if args.command == "tables":
            show_tables(args.pages, args.write)
            return
        plan = load_plan(args.plan, args.output)
        if args.command == "run":
            if args.jobs < 1:
                raise ValueError(f"--jobs is {args.jobs}: it must be at least 1.")
            check_output_folder(plan.output, "--output")
            runs = plan.select(args.only, args.seeds)
            run_plan(plan, runs, parallel=args.jobs, replace_changed=args.replace_changed)
        elif args.command == "table":
            print(format_tables(plan, args.dataset))
        else:
            folder = args.folder or Path(args.plan).resolve().parent.parent
            check_output_folder(folder, "The folder of results.csv")
            rows = record_runs(plan, folder)
            print(f"{len(rows)} runs recorded")
    except (RunFailed, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)


def show_tables(pages: list[Path], write: bool) -> None:
    """Prints the tables of pages, or brings the pages up to date."""
    for page in pages:
        for path in sorted(page.rglob("*.md")) if page.is_dir() else [page]:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path} is no page of text ({error}): name a .md file."
                ) from error
            updated = update_tables(text)
            if not write:
                print(*tables_in(text), sep="\n\n")
            elif updated != text:
                path.write_text(updated, encoding="utf-8")
                print(path)


if __name__ == "__main__":
    main()

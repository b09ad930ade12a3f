#!/usr/bin/env python
"""Makes training sets of what teachers find: generate, calibrate, merge, complete, split, view.

Examples:
    pseudo_label.py generate --config-file A.yaml --weights A.pth --images photos --output output/a
    pseudo_label.py merge output/a/pseudo.json output/b/pseudo.json --output output/both.json
    pseudo_label.py view --help
"""

from __future__ import annotations

import argparse
import sys

from distill.labeling.commands import calibrate, complete, generate, merge, split, view

COMMANDS = {
    "generate": generate,
    "calibrate": calibrate,
    "merge": merge,
    "complete": complete,
    "split": split,
    "view": view,
}


def parser() -> argparse.ArgumentParser:
    """The command line's parser; `run` of what it returns carries a command out."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=text.splitlines()[0].replace("%", "%%"),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return result


def main(arguments: list[str] | None = None) -> None:
    """Carries out one command; exits with status 2 and a sentence if it can't."""
    args = parser().parse_args(arguments)
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

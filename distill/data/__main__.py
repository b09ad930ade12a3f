"""Makes every split of the built-in digits dataset ahead of its first use."""

from __future__ import annotations

import argparse
import logging
import sys

from distill.data.digits import SPLITS, default_root, prepare_split


def main(arguments: list[str] | None = None) -> None:
    """Makes the splits and prints their folders; status 2 and a sentence if it can't."""
    argparse.ArgumentParser(prog="python -m distill.data", description=__doc__).parse_args(
        arguments
    )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in SPLITS:
            print(prepare_split(name, default_root()))
    except (ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

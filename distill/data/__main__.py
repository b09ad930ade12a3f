"""Makes every split of the built-in digits dataset ahead of its first use."""

import logging

from distill.data.digits import SPLITS, default_root, prepare_split

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in SPLITS:
        print(prepare_split(name, default_root()))

"""Sets of image files that were found to be good, so that no run looks at them twice."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["is_known_good", "remember_good"]

# By a digest of all that the outcome depends on.
_GOOD: set[str] = set()


def is_known_good(key: str) -> bool:
    """Whether a digest was remembered, here or by another run."""
    return key in _GOOD or _path(key).is_file()


def remember_good(key: str, *, on_disk: bool) -> None:
    """Keeps a digest.

    Args:
        key: the digest.
        on_disk: keep it for other runs too, where Detectron2 keeps what it downloads
            (``$FVCORE_CACHE``, by default ~/.torch/iopath_cache); if that can't be, it is not.
    """
    _GOOD.add(key)
    if on_disk:
        with contextlib.suppress(OSError):
            _path(key).parent.mkdir(parents=True, exist_ok=True)
            _path(key).touch()


def _path(key: str) -> Path:
    cache = os.path.expanduser(os.getenv("FVCORE_CACHE", "~/.torch/iopath_cache"))
    return Path(cache) / "distill_images" / key

"""What was found out about sets of image files, so that no run looks at them twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from distill.utils.files import write_json

__all__ = ["recall", "remember"]

# By a digest of all that the outcome depends on.
_KNOWN: dict[str, list[Any]] = {}


def recall(key: str) -> list[Any] | None:
    """What was remembered under a digest, here or by another run; None if nothing was."""
    if key not in _KNOWN:
        try:
            found = json.loads(_path(key).read_bytes())
        except (OSError, ValueError):
            return None
        _KNOWN[key] = found
    return _KNOWN[key]


def remember(key: str, found: list[Any], *, on_disk: bool) -> None:
    """Keeps plain values under a digest.

    Args:
        key: the digest.
        found: the values.
        on_disk: keep them for other runs too, where Detectron2 keeps what it downloads
            (``$FVCORE_CACHE``, by default ~/.torch/iopath_cache); if that can't be, they are not.
    """
    _KNOWN[key] = found
    if on_disk:
        try:
            _path(key).parent.mkdir(parents=True, exist_ok=True)
            write_json(_path(key), found)
        except OSError:
            return


def _path(key: str) -> Path:
    cache = os.path.expanduser(os.getenv("FVCORE_CACHE", "~/.torch/iopath_cache"))
    return Path(cache) / "distill_images" / f"{key}.json"

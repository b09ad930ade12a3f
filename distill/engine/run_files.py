"""What a run directory holds besides checkpoints, and its state when a run starts."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from pathlib import Path

from detectron2.utils.collect_env import collect_env_info

from distill.utils.files import remove_stale_files

__all__ = ["git_revision", "start_run_files", "write_environment"]

_logger = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[2]


def git_revision(root: Path = _ROOT) -> str:
    """Returns the commit of a repository, with "(modified)" where files differ from it.

    Args:
        root: the repository's top folder.

    Returns:
        "unknown" where git is missing or the folder is not a repository's top.
    """
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown"
        revision = _git(root, "rev-parse", "HEAD")
        return f"{revision} (modified)" if _git(root, "status", "--porcelain") else revision
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_environment(folder: Path) -> None:
    """Writes versions, devices and the git revision to ``env.txt``."""
    text = f"git revision: {git_revision()}\n{collect_env_info()}\n"
    (folder / "env.txt").write_text(text, encoding="utf-8")


def start_run_files(folder: Path, start_iter: int) -> None:
    """Clears what does not belong to the run that starts.

    Unfinished files of a killed process go. A resumed run repeats the iterations after its
    checkpoint, so their metrics go. A new run puts an older one's metrics aside and forgets its
    last checkpoint, lest a later ``--resume`` mixes the two.

    Args:
        folder: the run directory.
        start_iter: the first iteration to come; 0 is a new run.
    """
    remove_stale_files(folder)
    metrics = folder / "metrics.json"
    if start_iter == 0:
        last = folder / "last_checkpoint"
        if last.exists():
            _logger.warning("Starting anew: %s no longer names an older run's checkpoint.", last)
            last.unlink()
        if metrics.exists() and metrics.stat().st_size:
            shutil.copyfile(metrics, folder / "metrics.old.json")
    if metrics.exists():
        _keep_metrics_before(metrics, start_iter)


def _keep_metrics_before(metrics: Path, iteration: int) -> None:
    # In place: Detectron2's writer has the file open for appending.
    with open(metrics, "r+", encoding="utf-8") as stream:
        kept = [line for line in stream if _iteration_of(line) < iteration]
        stream.seek(0)
        stream.truncate()
        stream.writelines(kept)


def _iteration_of(line: str) -> float:
    """Returns the iteration of a line of metrics, infinity for one that was cut short."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError):
        return float("inf")


def _git(root: Path, *arguments: str) -> str:
    # A run that is killed right now must not leave a lock in the repository.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

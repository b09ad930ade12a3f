"""What a run directory holds besides checkpoints, and its state when a run starts."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

from detectron2.utils.collect_env import collect_env_info

from distill.utils.files import atomic_write, load_json, remove_stale_files

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
    checkpoint, so their metrics go, and theirs alone: lines that can't be read are put aside into
    ``metrics.unreadable.txt``. A new run puts an older one's metrics aside and forgets its last
    checkpoint, lest a later ``--resume`` mixes the two.

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
    # Of a start that was killed while it wrote the file anew.
    backup = metrics.with_name(".metrics.json.whole")
    content = backup.read_bytes() if backup.exists() else metrics.read_bytes()
    lines = [line + b"\n" for line in content.split(b"\n") if line.strip()]
    iterations = [_iteration_of(line) for line in lines]
    unreadable = [x for x, of in zip(lines, iterations, strict=True) if of is None]
    if unreadable:
        aside = metrics.with_name("metrics.unreadable.txt")
        with open(aside, "ab") as stream:
            stream.writelines(unreadable)
        _logger.warning(
            "%d lines of %s can't be read: they are in %s now.", len(unreadable), metrics, aside
        )
    kept = b"".join(
        x for x, of in zip(lines, iterations, strict=True) if of is not None and of < iteration
    )
    if kept == content and not backup.exists():
        return
    atomic_write(backup, lambda stream: stream.write(content))
    # In place: Detectron2's writer has the file open for appending.
    with open(metrics, "r+b") as stream:
        stream.write(kept)
        stream.truncate()
    backup.unlink()


def _iteration_of(line: bytes) -> float | None:
    """Returns the iteration of a line of metrics, -1 without one; None if it is no such line."""
    try:
        values = load_json(line.decode("utf-8"))
    except ValueError:  # UnicodeDecodeError is one.
        return None
    if not isinstance(values, dict):
        return None
    iteration = values.get("iteration")
    return iteration if isinstance(iteration, (int, float)) else -1


def _git(root: Path, *arguments: str) -> str:
    # A run that is killed right now must not leave a lock in the repository.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

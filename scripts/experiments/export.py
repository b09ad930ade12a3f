"""The evidence of a result, small enough to lie beside the config in the repository."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from distill.data.digits import default_root
from distill.engine.results import RESULTS_FILE
from distill.engine.stages import STAGES
from experiments.plan import Plan
from experiments.run_state import read_results

__all__ = ["export_runs", "hide_paths", "thin_metrics"]

_LEFT_OUT = ("eta_seconds", "rank_data_time")
_ABSOLUTE_PATH = re.compile(r"(?<![\w.>/:-])/(?:[\w.+-]+/)+")
_COLOR = re.compile(r"\x1b\[[\d;]*m")


def export_runs(plan: Plan, destination: Path) -> list[Path]:
    """Copies what documents each finished run: config, revision, results, metrics, log; no weights.

    Paths of this machine become placeholders. Metrics are thinned by :func:`thin_metrics`; the log
    is complete, compressed as ``log.txt.gz``.

    Args:
        plan: the plan.
        destination: the folder that gets ``<name>/seed<k>/``.

    Returns:
        The folders that were written.
    """
    written = []
    for run in plan.runs.values():
        if read_results(run) is None:
            continue
        folder = destination / run.id
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.yaml", "env.txt", RESULTS_FILE):
            text = (run.folder / name).read_text(encoding="utf-8")
            (folder / name).write_text(hide_paths(text), encoding="utf-8")
        for stage in STAGES if run.stages else ("",):
            metrics = thin_metrics((run.folder / stage / "metrics.json").read_text("utf-8"))
            (folder / stage).mkdir(exist_ok=True)
            (folder / stage / "metrics.json").write_text(metrics, encoding="utf-8")
        log = _COLOR.sub("", (run.folder / "log.txt").read_text(encoding="utf-8"))
        # Without a time, so that the same log makes the same file.
        (folder / "log.txt.gz").write_bytes(gzip.compress(hide_paths(log).encode(), mtime=0))
        written.append(folder)
    return written


def hide_paths(text: str) -> str:
    """Replaces this machine's folders by placeholders, and any other absolute path's folders."""
    places = {
        sys.prefix: "<python>",
        sys.base_prefix: "<python>",
        str(default_root().parent): "<datasets>",
        os.getcwd(): "<root>",
        str(Path(__file__).resolve().parents[2]): "<root>",
        str(Path.home()): "<home>",
    }
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:
            text = re.sub(rf"(?<![\w.-]){re.escape(place)}(?![\w-])", places[place], text)
    return _ABSOLUTE_PATH.sub("<path>/", text)


def thin_metrics(text: str, lines: int = 60) -> str:
    """Shortens metrics.json: evenly spaced lines, numbers of five digits, no forecasts.

    Lines of evaluations and the last line are kept in any case.

    Args:
        text: one JSON object a line, as Detectron2 writes it.
        lines: about how many lines to keep.
    """
    records = [json.loads(line) for line in text.splitlines()]
    step = max(1, -(-len(records) // lines))
    kept = []
    for index, record in enumerate(records):
        evaluated = any("bbox/" in key for key in record)
        if evaluated or (index + 1) % step == 0 or index + 1 == len(records):
            kept.append({k: _short(v) for k, v in record.items() if k not in _LEFT_OUT})
    return "".join(json.dumps(record) + "\n" for record in kept)


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value

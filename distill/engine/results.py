"""What a finished run came to: one small file that tables and plots read."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from distill.utils.files import write_json

__all__ = ["RESULTS_FILE", "RunResults", "TrainingClock", "combine_results", "summarize_boxes"]

RESULTS_FILE = "results.json"
_METRICS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


class TrainingClock(HookBase):
    """Sums the time of the training steps, over all resumes of a run.

    It must be the first hook: then evaluation and checkpoints, hooks themselves, are not counted.
    Steps that a killed run repeats count once.

    Attributes:
        seconds: wall time so far of data loading, forward, backward and update.
    """

    def __init__(self) -> None:
        """Starts at zero."""
        self.seconds = 0.0
        self._start = 0.0

    def before_step(self) -> None:
        """Notes the start."""
        self._start = time.perf_counter()

    def after_step(self) -> None:
        """Adds the step."""
        self.seconds += time.perf_counter() - self._start

    def state_dict(self) -> dict[str, float]:
        """The seconds, for the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restores :meth:`state_dict`."""
        self.seconds = state_dict["seconds"]


class RunResults(HookBase):
    """Writes ``results.json`` into OUTPUT_DIR when training is complete.

    The file has ap, ap50 and ap75 of the boxes (in percent, null where undefined) on the first
    test dataset, its name as dataset, the student's parameters in millions, iterations, the seconds
    of training steps and the seed; with several test datasets also the metrics of each. It must
    come after the evaluation hook. While a run is unfinished there is no such file.

    Attributes:
        summarize: what picks the metrics; a training of another task puts its own here.
    """

    def __init__(self, clock: TrainingClock) -> None:
        """Notes the clock.

        Args:
            clock: a hook of the same trainer.
        """
        self.clock = clock
        self.summarize = summarize_boxes

    def before_train(self) -> None:
        """Removes the file of an earlier training in the same folder."""
        if comm.is_main_process():
            self._path.unlink(missing_ok=True)

    def after_train(self) -> None:
        """Writes the file, unless training ended early."""
        trainer = self.trainer
        if not comm.is_main_process() or trainer.iter < trainer.max_iter:
            return
        datasets = list(trainer.cfg.DATASETS.TEST)
        by_dataset = self.summarize(trainer._last_eval_results, datasets)
        parameters = sum(parameter.numel() for parameter in trainer.student.parameters())
        results: dict[str, Any] = {
            **(by_dataset[datasets[0]] if datasets else dict.fromkeys(_METRICS)),
            "params_m": parameters / 1e6,
            "iterations": trainer.max_iter,
            "train_seconds": round(self.clock.seconds, 3),
            "seed": trainer.seed,
            "dataset": datasets[0] if datasets else None,
        }
        if len(datasets) > 1:
            results["datasets"] = by_dataset
        write_json(self._path, results)

    @property
    def _path(self) -> Path:
        return Path(self.trainer.cfg.OUTPUT_DIR, RESULTS_FILE)


def combine_results(output: Path, stages: Sequence[str]) -> None:
    """Writes a run's ``results.json``: the last stage's, iterations and seconds of all, and each.

    Args:
        output: the run directory, with a folder of each stage's name that has its results.json.
        stages: names of the stages, in their order.
    """
    parts = {
        name: json.loads((output / name / RESULTS_FILE).read_text(encoding="utf-8"))
        for name in stages
    }
    summed = {
        key: sum(part[key] for part in parts.values()) for key in ("iterations", "train_seconds")
    }
    write_json(output / RESULTS_FILE, {**parts[stages[-1]], **summed, "stages": parts})


def summarize_boxes(
    results: dict[str, Any], datasets: list[str]
) -> dict[str, dict[str, float | None]]:
    """Picks the box metrics from a trainer's evaluation.

    Args:
        results: task -> metric -> value of the one dataset, or dataset -> task -> metric -> value.
        datasets: names of the test datasets.

    Returns:
        dataset -> ap, ap50, ap75 in percent; None for one that is undefined or was not computed.
    """
    if len(datasets) == 1:
        results = {datasets[0]: results}
    summary = {}
    for dataset in datasets:
        boxes = (results.get(dataset) or {}).get("bbox", {})
        values = {key: float(boxes.get(metric, math.nan)) for key, metric in _METRICS.items()}
        summary[dataset] = {key: x if math.isfinite(x) else None for key, x in values.items()}
    return summary

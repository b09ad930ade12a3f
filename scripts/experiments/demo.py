"""The demo's report: results.json and index.html from three finished runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from distill.data.builtin import check_datasets
from distill.utils.files import atomic_write, write_json
from distill.utils.page import data_uri, image_uri, render_page
from experiments.curves import (
    draw_detection_loss,
    draw_metrics,
    draw_scores,
    read_metrics,
)
from experiments.detections import (
    Picture,
    detect,
    evenly_spaced,
    mark_right,
    true_boxes,
)
from experiments.plan import Plan, Run
from experiments.run_state import read_results

__all__ = ["write_report"]

_FIELDS = ("ap", "ap50", "ap75", "params_m", "train_seconds", "seed")
_TITLES = {
    "teacher": "teacher",
    "student_alone": "student alone",
    "student_tadf": "student with TADF",
}
_DATASET = "digits_test"
_EXAMPLES = 8
_THRESHOLD = 0.5


@dataclass
class Example:
    """A row of pictures of one image.

    Attributes:
        uri: the image as a data URI.
        width: its width in pixels.
        height: its height in pixels.
        pictures: title -> what is drawn on it.
    """

    uri: str
    width: int
    height: int
    pictures: dict[str, Picture]

    @classmethod
    def of_file(cls, path: str | Path, pictures: dict[str, Picture]) -> Example:
        """Reads the image file."""
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        return cls(image_uri(rgb), rgb.width, rgb.height, pictures)


def write_report(plan: Plan, template: Path) -> Path:
    """Writes results.json and index.html into the plan's output.

    Args:
        plan: its runs teacher, student_alone and student_tadf are finished, with one seed each.
        template: the page's Jinja template.

    Returns:
        The page.
    """
    runs = {run.name: run for run in plan.runs.values()}
    results = {name: read_results(runs[name]) for name in _TITLES}
    rows = [{"name": n, **{key: r[key] for key in _FIELDS}} for n, r in results.items()]
    write_json(plan.output / "results.json", rows)

    seconds = {name: r["train_seconds"] for name, r in results.items()}
    page = plan.output / "index.html"
    values = {
        "dataset": _DATASET,
        "results": rows,
        "iterations": {name: r["iterations"] for name, r in results.items()},
        "student_iterations": results["student_tadf"]["iterations"],
        "slowdown": seconds["student_tadf"] / seconds["student_alone"],
        "curves": _curves(runs, results["teacher"]),
        "examples": _examples(runs),
        "titles": ["ground truth", *_TITLES.values()],
        "threshold": _THRESHOLD,
    }
    html = render_page(template, values)
    atomic_write(page, lambda stream: stream.write(html.encode()))
    return page


def _curves(runs: dict[str, Run], teacher: dict[str, Any]) -> list[dict[str, str]]:
    names = ("student_alone", "student_tadf")
    students = {_TITLES[name]: read_metrics(runs[name].folder) for name in names}
    tadf = students[_TITLES["student_tadf"]]
    on_val = teacher.get("datasets", {}).get("digits_val", {}).get("ap")
    terms = {f"loss_tadf_{term}": term for term in ("neck", "cls", "box")}
    parts = {
        "tadf/gate_cls": "gate cls",
        "tadf/gate_box": "gate box",
        "tadf/factor": "schedule's factor",
    }
    drawn = {
        "Sum of the detection losses, without the terms of TADF.": draw_detection_loss(students),
        "AP on digits_val, in percent.": draw_scores(
            students, "digits_val/bbox/AP", "AP on digits_val", ("teacher", on_val)
        ),
        "The terms of TADF as they are trained on: with their weights and the schedule's factor.": (
            draw_metrics(tadf, terms, "loss", log=True)
        ),
        "Share of foreground proposals on which the teacher is followed (gates), and the "
        "schedule's factor.": draw_metrics(tadf, parts, "share, factor"),
    }
    return [
        {"caption": caption, "uri": data_uri("image/svg+xml", document.encode())}
        for caption, document in drawn.items()
        if document
    ]


def _examples(runs: dict[str, Run]) -> list[Example]:
    check_datasets([_DATASET])
    samples = evenly_spaced(_DATASET, _EXAMPLES)
    found = {
        title: detect(runs[name].folder, _DATASET, samples, _THRESHOLD)
        for name, title in _TITLES.items()
    }
    examples = []
    for index, sample in enumerate(samples):
        truth = true_boxes(_DATASET, sample)
        pictures = {"ground truth": Picture(truth)}
        for title, detections in found.items():
            pictures[title] = mark_right(detections[index], truth)
        examples.append(Example.of_file(sample["file_name"], pictures))
    return examples

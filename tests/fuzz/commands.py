"""The commands that tries are given to, and what is looked at when one ends with 0."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from distill.engine import build_evaluator
from fuzz.judge import Command


def train(
    name: str,
    options: Callable[[Path, Path], list[str]],
    observe: Callable[[Path, Path, str], Any] | None = None,
    config: str = "student",
    flags: tuple[str, ...] = (),
    **rest: Any,
) -> Command:
    """A command line of train_net.py on a config of the base; options may override it."""

    def arguments(file: Path, out: Path) -> list[str]:
        given = options(file, proper(out))
        source = (
            [] if "--config-file" in given else ["--config-file", f"{proper(out)}/{config}.yaml"]
        )
        return [*source, "--num-gpus", "0", *flags, *given, *_output(given, out)]

    return Command(name, "train_net", arguments, observe or losses, logs=True, **rest)


def label(
    name: str, options: Callable[[Path, Path, Path], list[str]], observe: Callable, **rest: Any
) -> Command:
    """A command line of pseudo_label.py."""

    def arguments(file: Path, out: Path) -> list[str]:
        return [name.split("/")[0], *options(file, proper(out), out)]

    return Command(name, "pseudo_label", arguments, observe, **rest)


def proper(out: Path) -> Path:
    """The base of a try, by its output."""
    return out.parents[1] / "proper"


def data(file: Path, base: Path) -> str:
    """A dataset by its file and the images of the base, as a config has it."""
    return f"('{file}@{base}/images',)"


def losses(out: Path, file: Path, said: str) -> Any:
    """Every loss that was written."""
    lines = (out / "metrics.json").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if "loss" in k} for row in rows]


def results(out: Path, file: Path, said: str) -> Any:
    """The table of results."""
    table = said.rpartition("Results")[2]
    return re.findall(r"[\w|:. -]+", table)


def labeled(path: str) -> Callable[[Path, Path, str], Any]:
    """The boxes of the JSON files that were written, by name of image and class."""

    def observe(out: Path, file: Path, said: str) -> Any:
        (written,) = out.parent.glob(f"out/{path}")
        return boxes_of(json.loads(written.read_bytes()))

    return observe


def boxes_of(content: dict[str, Any]) -> list[Any]:
    """The images of COCO's JSON with their boxes, sorted."""
    classes = {x["id"]: x["name"] for x in content["categories"]}
    rows = {
        x["id"]: [os.path.basename(x["file_name"]), x["width"], x["height"], []]
        for x in content["images"]
    }
    for x in content["annotations"]:
        box = [round(float(v), 3) for v in x["bbox"]]
        rows[x["image_id"]][-1].append([classes[x["category_id"]], *box])
    return sorted([*row[:-1], sorted(row[-1])] for row in rows.values())


def records(out: Path, file: Path, said: str) -> Any:
    """What training saw of a COCO file, and its losses."""
    name = next(x for x in DatasetCatalog.list() if x.startswith(str(file)))
    return {"records": records_of(name), "finite": bool(losses(out, file, said))}


def records_of(name: str) -> list[Any]:
    """The images of a registered dataset with their boxes, sorted."""
    classes = MetadataCatalog.get(name).thing_classes
    rows = []
    for x in DatasetCatalog.get(name):
        boxes = [_box(box, classes) for box in x["annotations"]]
        image = [os.path.basename(x["file_name"]), x["width"], x["height"]]
        rows.append([*image, sorted(boxes, key=str)])
    return sorted(rows)


def perfect(out: Path, file: Path, said: str) -> Any:
    """The AP of a detector that finds exactly the labels, and what they are."""
    from fuzz.base import read

    name = next(x for x in DatasetCatalog.list() if x.startswith(str(file)))
    evaluator = build_evaluator(read(proper(out) / "student.yaml"), name, str(out / "perfect"))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        true = [x for x in record["annotations"] if not x.get("iscrowd")]
        found = Instances((record["height"], record["width"]))
        corners = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in true]
        found.pred_boxes = Boxes(torch.tensor(corners, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.full((len(true),), 0.9)
        found.pred_classes = torch.tensor([x["category_id"] for x in true], dtype=torch.int64)
        shown = {key: record[key] for key in ("image_id", "file_name")}
        evaluator.process([shown], [{"instances": found}])
    return {"AP": evaluator.evaluate()["bbox"]["AP"], "records": records_of(name)}


def tensors(out: Path, file: Path, said: str) -> Any:
    """A checksum of each tensor of a written checkpoint."""
    (written,) = [x for x in (out, out / "model_final.pth") if x.is_file()]
    state = torch.load(written, weights_only=True)["model"]
    return {name: _digest(tensor) for name, tensor in state.items()}


def page(out: Path, file: Path, said: str) -> Any:
    """What view says of the page."""
    return re.findall(r"^images: .*$", said, re.MULTILINE)


def thresholds(out: Path, file: Path, said: str) -> Any:
    """The thresholds that were written, and from what."""
    content = json.loads((out / "thresholds.json").read_bytes())
    kept = {key: content[key] for key in ("default", "classes")}
    return {**kept, "counts": content["info"]["counts"]}


def _output(given: list[str], out: Path) -> list[str]:
    return [] if "OUTPUT_DIR" in given else ["OUTPUT_DIR", str(out)]


def _box(box: dict[str, Any], classes: list[str]) -> list[Any]:
    corners = BoxMode.convert(list(box["bbox"]), box["bbox_mode"], BoxMode.XYXY_ABS)
    crowd = bool(box.get("iscrowd", 0))
    return [classes[box["category_id"]], *(round(float(x), 3) for x in corners), crowd]


def _digest(tensor: torch.Tensor) -> Any:
    if tensor.is_floating_point() and not tensor.isfinite().all():
        return float("nan")
    plain = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(plain.tobytes()).hexdigest()[:16]
